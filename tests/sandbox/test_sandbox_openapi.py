"""A busy session, judged by Discord's own description of its API."""

from __future__ import annotations

import os
from pathlib import Path

import discord
import pytest

from bot.sandbox.server import Sandbox
from tests.sandbox.sandbox_bot import Bot, Controls


def layout(*items: discord.ui.Item) -> discord.ui.LayoutView:
    view = discord.ui.LayoutView()
    for item in items:
        view.add_item(item)
    return view


PATH = os.environ.get("DISCORD_OPENAPI", "")


@pytest.mark.skipif(not PATH, reason="DISCORD_OPENAPI names no copy of Discord's OpenAPI file")
async def test_exchanges_fit_discords_description(sandbox: Sandbox, bot: Bot) -> None:
    from tests.wire.openapi import Judge

    alice = sandbox.user("alice")
    call = await alice.slash("general", "draw", prompt="a lighthouse")
    message = await call.until(lambda m: m.components)
    await (await alice.slash("general", "card", title="A card")).answer()
    await (await alice.slash("general", "whisper")).answer()
    await alice.autocomplete("general", "pick", "colour", colour="g")
    await (await alice.press(message, "Quietly")).response()
    opened = await alice.press(message, "Form")
    await opened.response()
    await (await alice.submit_modal(opened, {"line": "O", "kind": ["Ode"]})).answer()
    await (await alice.press(message, "again")).response()
    interaction = await bot.interactions.get()
    original = await interaction.original_response()
    extra = await interaction.followup.send("more", wait=True, file=bot.file())
    await extra.edit(content="most", embed=discord.Embed(title="t", description="d"))
    await extra.delete()
    channel = bot.get_partial_messageable(original.channel.id)
    sent = await channel.send(
        "hello", file=bot.file(), view=Controls(), nonce="job-1", reference=original
    )
    await sent.edit(
        content="changed", embed=discord.Embed(title="t").add_field(name="n", value="v")
    )
    await channel.send("hey", allowed_mentions=discord.AllowedMentions(users=[original.author]))
    await channel.send(view=layout(discord.ui.Container(discord.ui.TextDisplay("hello"))))
    file = bot.file()
    picture = discord.MediaGalleryItem(file, description="a picture")
    far = discord.MediaGalleryItem("https://example.org/a.png", spoiler=True)
    box = discord.ui.Container(
        discord.ui.Section(
            discord.ui.TextDisplay("**bold**"), accessory=discord.ui.Thumbnail(file)
        ),
        discord.ui.Separator(),
        discord.ui.MediaGallery(picture, far),
        discord.ui.ActionRow(discord.ui.Button(label="Go", custom_id="go")),
        accent_colour=0x5865F2,
    )
    card = await channel.send(view=layout(discord.ui.TextDisplay("above"), box), file=file)
    await card.edit(view=layout(discord.ui.TextDisplay("less")), attachments=[])
    assert [m async for m in channel.history(limit=5)]
    await channel.fetch_message(sent.id)
    await sent.delete()
    await channel.typing()
    user = await bot.fetch_user(alice.id)
    await user.send("in private")
    await bot.fetch_channel(original.channel.id)
    await bot.fetch_channel(sandbox.world.channel("sketches").id)
    guild = await bot.fetch_guild(bot.guilds[0].id)
    await guild.fetch_member(alice.id)
    await bot.tree.fetch_commands()
    await bot.tree.sync(guild=guild)
    await bot.application_info()
    await bot.http.get_bot_gateway()
    with pytest.raises(discord.HTTPException):
        await channel.send("x" * 2001)
    judge = Judge(Path(PATH))
    assert not (found := judge.complaints(sandbox.exchanges)), "\n".join(found)
    assert judge.judged > 30
