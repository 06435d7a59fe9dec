"""The real client's ordinary day: commands, clicks, forms, files, direct messages."""

from __future__ import annotations

import asyncio

import discord
import pytest

from bot.sandbox.errors import Refusal
from bot.sandbox.model import Callback, shown_media
from bot.sandbox.server import Sandbox
from tests.sandbox.sandbox_bot import Bot, Controls, png


async def test_login_ready_and_sync(sandbox: Sandbox, bot: Bot) -> None:
    assert bot.user is not None
    assert bot.user.name == "Imagine"
    guild = bot.guilds[0]
    assert guild.name == "Sandbox"
    assert {channel.name for channel in guild.text_channels} == {"general", "art", "staff"}
    assert [thread.name for thread in guild.threads] == ["sketches"]
    assert sandbox.world.bot_online
    names = {command["name"] for command in sandbox.world.commands.list(None)}
    assert names == {"draw", "whisper", "card", "late", "pick", "Shout", "admin"}
    again = await bot.tree.sync()
    fetched = await bot.tree.fetch_commands()
    assert {c.id for c in again} == {c.id for c in fetched}
    info = await bot.application_info()
    assert info.owner.name == "alice"


async def test_wrong_token_is_refused(sandbox: Sandbox, route: None) -> None:
    async with Bot() as stranger:
        with pytest.raises(discord.LoginFailure):
            await stranger.login("something-else")


async def test_slash_defer_edits_and_file_bytes(sandbox: Sandbox, bot: Bot) -> None:
    bot.gate.clear()
    call = await sandbox.user("alice").slash("general", "draw", prompt="a lighthouse", steps=4)
    response = await call.response()
    assert response.kind is Callback.DEFERRED_MESSAGE
    assert response.message is not None
    assert response.message.thinking
    bot.gate.set()
    message = await call.until(lambda m: m.attachments)
    assert message.content == "a lighthouse"
    assert not message.thinking
    file = message.attachments[0]
    assert (file.filename, file.content_type) == ("picture.png", "image/png")
    assert (file.width, file.height) == (32, 24)
    assert await sandbox.attachment_bytes(file.url) == bot.picture
    assert 0 < call.interaction.response_seconds < 3


async def test_attachment_option_reaches_the_bot(sandbox: Sandbox, bot: Bot) -> None:
    picture = png((48, 48))
    call = await sandbox.user("bob").slash("art", "draw", prompt="copy", image=("in.png", picture))
    message = await call.until(lambda m: m.attachments)
    assert message.attachments[0].data == picture


async def test_twenty_calls_in_flight(sandbox: Sandbox, bot: Bot) -> None:
    people = [sandbox.user(name) for name in ("alice", "bob", "chen", "mallory")]
    calls = [await people[n % 4].slash("general", "draw", prompt=f"no. {n}") for n in range(20)]
    done = await asyncio.gather(*(call.until(lambda m: m.attachments) for call in calls))
    assert [message.content for message in done] == [f"no. {n}" for n in range(20)]


async def test_embed_takes_its_picture_out_of_the_attachments(sandbox: Sandbox, bot: Bot) -> None:
    call = await sandbox.user("alice").slash("general", "card", title="A card")
    message = await call.answer()
    assert message.attachments == []
    image = message.embeds[0]["image"]
    assert await sandbox.attachment_bytes(image["url"]) == bot.picture
    assert (image["width"], image["height"]) == (32, 24)


async def test_a_gallery_takes_its_pictures_out_of_the_attachments(
    sandbox: Sandbox, bot: Bot
) -> None:
    channel = bot.get_partial_messageable(sandbox.user("alice").place("general").id)

    def shown(file: discord.File) -> discord.ui.LayoutView:
        view = discord.ui.LayoutView()
        view.add_item(discord.ui.Container(discord.ui.MediaGallery(discord.MediaGalleryItem(file))))
        return view

    first, second = bot.file(), bot.file()
    sent = await channel.send(view=shown(first), file=first)
    (message,) = sandbox.user("alice").messages("general")
    (before,) = message.files
    assert message.attachments == []
    assert sent.attachments == []
    # An edit brings another of the same name; the one before is gone.
    sent = await sent.edit(view=shown(second), attachments=[second])
    (after,) = message.files
    assert after.id != before.id
    (media,) = shown_media(message.components)
    assert (media["url"], media["attachment_id"]) == (after.url, str(after.id))
    assert await sandbox.attachment_bytes(media["url"]) == bot.picture


async def test_buttons_and_menus(sandbox: Sandbox, bot: Bot) -> None:
    alice, bob = sandbox.user("alice"), sandbox.user("bob")
    call = await alice.slash("general", "draw", prompt="tree")
    message = await call.until(lambda m: m.components)
    with pytest.raises(Refusal, match="disabled"):
        await bob.press(message, "Off")
    with pytest.raises(Refusal, match="no button"):
        await bob.press(message, "Nowhere")
    quiet = await bob.press(message, "Quietly")
    assert (await quiet.response()).kind is Callback.DEFERRED_UPDATE
    await sandbox.wait(lambda: quiet.followups)
    assert [m.content for m in bob.messages("general")] == ["tree", "only you"]
    assert [m.content for m in alice.messages("general")] == ["tree"]
    with pytest.raises(Refusal, match="not offered"):
        await bob.select(message, "pick", "z")
    picked = await bob.select(message, "pick", "b")
    assert (await picked.answer()).content == "picked b"
    pressed = await bob.press(message, "again")
    assert (await pressed.response()).kind is Callback.UPDATE
    assert (message.content, message.components) == ("pressed", [])


async def test_modal(sandbox: Sandbox, bot: Bot) -> None:
    alice = sandbox.user("alice")
    await bot.get_channel(sandbox.world.channel("general").id).send("hi", view=Controls())  # type: ignore[union-attr]
    message = alice.messages("general")[0]
    opened = await alice.press(message, "Form")
    modal = (await opened.response()).modal
    assert modal is not None
    assert modal.title == "A poem"
    with pytest.raises(Refusal, match="required"):
        await alice.submit_modal(opened, {"kind": ["Ode"]})
    with pytest.raises(Refusal, match="characters"):
        await alice.submit_modal(opened, {"line": "x" * 21, "kind": ["Ode"]})
    with pytest.raises(Refusal, match="no such form"):
        await sandbox.user("bob").submit_modal(opened, {"line": "x", "kind": ["Ode"]})
    sent = await alice.submit_modal(opened, {"line": "O tree", "kind": ["Ode"]})
    answer = await sent.answer()
    assert answer.content == "O tree / Ode"
    assert answer.ephemeral


async def test_autocomplete(sandbox: Sandbox, bot: Bot) -> None:
    chen = sandbox.user("chen")
    choices = await chen.autocomplete("general", "pick", "colour", colour="gr")
    assert [choice["value"] for choice in choices] == ["green", "grey"]
    assert len(await chen.autocomplete("general", "pick", "colour")) == 3


async def test_context_menu(sandbox: Sandbox, bot: Bot) -> None:
    bob = sandbox.user("bob")
    message = await bob.send("art", "quiet words")
    call = await sandbox.user("chen").context_menu("art", "Shout", message)
    assert (await call.answer()).content == "QUIET WORDS"


async def test_ephemeral_is_seen_by_its_caller_only(sandbox: Sandbox, bot: Bot) -> None:
    bob = sandbox.user("bob")
    message = await (await bob.slash("general", "whisper")).answer()
    assert message.ephemeral
    assert message in bob.messages("general")
    assert sandbox.user("alice").messages("general") == []
    channel = bot.get_partial_messageable(message.channel.id)
    with pytest.raises(discord.NotFound) as caught:
        await channel.get_partial_message(message.id).edit(content="out loud")
    assert caught.value.code == 10008


async def test_direct_messages(sandbox: Sandbox, bot: Bot) -> None:
    chen = sandbox.user("chen")
    await chen.send("dm", "画一座灯塔", [("note.txt", b"hello")])
    heard = await bot.heard.get()
    assert isinstance(heard.channel, discord.DMChannel)
    assert heard.content == "画一座灯塔"
    assert await heard.attachments[0].read() == b"hello"
    await heard.channel.send("好", file=bot.file())
    assert [m.content for m in chen.messages("dm")] == ["画一座灯塔", "好"]
    call = await chen.slash("dm", "whisper", text="in private")
    assert (await call.answer()).content == "in private"
    bob = await bot.fetch_user(sandbox.user("bob").id)
    await bob.send("hello")
    assert sandbox.user("bob").messages("dm")[0].content == "hello"
    assert chen.messages(sandbox.world.dm(sandbox.user("bob").user)) == []


async def test_locale_permissions_and_context_reach_the_bot(sandbox: Sandbox, bot: Bot) -> None:
    await (await sandbox.user("chen").slash("general", "whisper")).answer()
    await (await sandbox.user("alice").slash("general", "whisper")).answer()
    await (await sandbox.user("chen").slash("dm", "whisper")).answer()
    chen, alice, private = [await bot.interactions.get() for _ in range(3)]
    assert chen.locale is discord.Locale.chinese
    assert chen.filesize_limit == 10 * 1024 * 1024
    assert not chen.permissions.manage_guild
    assert alice.permissions.administrator
    assert chen.app_permissions.attach_files
    assert chen.context.guild
    assert private.context.dm_channel
    assert private.guild is None


async def test_content_of_guild_messages_needs_the_intent(sandbox: Sandbox, bot: Bot) -> None:
    await sandbox.user("bob").send("general", "a secret")
    heard = await bot.heard.get()
    assert (heard.author.name, heard.content) == ("bob", "")
    assert [m.content async for m in heard.channel.history()] == [""]
    await sandbox.user("bob").send("general", f"hey <@{bot.user.id}>")  # type: ignore[union-attr]
    assert "hey" in (await bot.heard.get()).content


async def test_mentions_ping_only_when_allowed(sandbox: Sandbox, bot: Bot) -> None:
    bob = sandbox.user("bob")
    text = f"@everyone <@{bob.id}>"
    channel = bot.get_partial_messageable(sandbox.world.channel("general").id)
    loud = await channel.send(text, allowed_mentions=discord.AllowedMentions.all())
    meek = await channel.send(text)
    assert loud.mention_everyone
    assert [user.name for user in loud.mentions] == ["bob"]
    assert not meek.mention_everyone
    assert meek.mentions == []


async def test_members_can_be_asked_for(sandbox: Sandbox, bot: Bot) -> None:
    found = await bot.guilds[0].query_members("ali")
    assert [member.name for member in found] == ["alice"]


async def test_layout_view_gets_ids_and_refuses_content(sandbox: Sandbox, bot: Bot) -> None:
    view = discord.ui.LayoutView()
    view.add_item(discord.ui.TextDisplay("hello"))
    channel = bot.get_partial_messageable(sandbox.world.channel("general").id)
    sent = await channel.send(view=view)
    assert sent.components[0].id == 1
    old = await channel.send("text")
    with pytest.raises(discord.HTTPException) as caught:
        await old.edit(view=view)
    assert caught.value.code == 50035
    edited = await old.edit(content=None, view=view)
    assert edited.flags.components_v2
    with pytest.raises(discord.HTTPException):
        await edited.edit(content="back again")


async def test_history_pages(sandbox: Sandbox, bot: Bot) -> None:
    channel = bot.get_partial_messageable(sandbox.world.channel("art").id)
    sent = [await channel.send(str(n)) for n in range(6)]
    texts = [m.content async for m in channel.history(limit=2, before=sent[4])]
    assert texts == ["3", "2"]
    texts = [m.content async for m in channel.history(after=sent[3], oldest_first=True)]
    assert texts == ["4", "5"]
    texts = [m.content async for m in channel.history(around=sent[2], limit=3)]
    assert sorted(texts) == ["1", "2", "3"]
    await sent[5].delete()
    with pytest.raises(discord.NotFound):
        await channel.fetch_message(sent[5].id)
    assert (await channel.fetch_message(sent[0].id)).content == "0"
