"""What Discord refuses: rights, lengths, late answers, old tokens, hidden commands."""

from __future__ import annotations

import io
from typing import Any

import discord
import pytest

from bot.sandbox.errors import Refusal
from bot.sandbox.model import Flag
from bot.sandbox.people import NoResponse
from bot.sandbox.permissions import Permission
from bot.sandbox.server import Sandbox
from tests.sandbox.sandbox_bot import Bot


def messageable(sandbox: Sandbox, bot: Bot, name: str) -> discord.PartialMessageable:
    return bot.get_partial_messageable(sandbox.world.channel(name).id)


async def test_late_answer_is_void(sandbox: Sandbox, bot: Bot) -> None:
    bot.gate.clear()
    call = await sandbox.user("alice").slash("general", "late")
    await bot.interactions.get()
    sandbox.clock.advance(3.1)
    with pytest.raises(NoResponse, match="did not respond"):
        await call.response()
    bot.gate.set()
    error = await bot.errors.get()
    assert isinstance(error, discord.NotFound)
    assert error.code == 10062
    assert sandbox.user("alice").messages("general") == []


async def test_token_dies_after_fifteen_minutes(sandbox: Sandbox, bot: Bot) -> None:
    await (await sandbox.user("alice").slash("general", "whisper")).answer()
    interaction = await bot.interactions.get()
    sandbox.clock.advance(14 * 60)
    await interaction.edit_original_response(content="still here")
    sandbox.clock.advance(61)
    with pytest.raises(discord.HTTPException) as caught:
        await interaction.edit_original_response(content="too late")
    assert (caught.value.status, caught.value.code) == (401, 50027)


async def test_second_first_response(sandbox: Sandbox, bot: Bot) -> None:
    await (await sandbox.user("alice").slash("general", "whisper")).answer()
    interaction = await bot.interactions.get()
    route = discord.http.Route(
        "POST", f"/interactions/{interaction.id}/{interaction.token}/callback"
    )
    with pytest.raises(discord.HTTPException) as caught:
        await bot.http.request(route, json={"type": 5})
    assert caught.value.code == 40060


async def test_followup_fills_a_deferred_answer(sandbox: Sandbox, bot: Bot) -> None:
    call = await sandbox.user("alice").slash("general", "draw", prompt="x")
    await call.until(lambda m: m.attachments)
    interaction = await bot.interactions.get()
    await interaction.delete_original_response()
    with pytest.raises(discord.NotFound) as caught:
        await interaction.edit_original_response(content="gone")
    assert caught.value.code == 10008
    extra = await interaction.followup.send("more", wait=True)
    await extra.edit(content="most")
    assert [m.content for m in sandbox.user("bob").messages("general")] == ["most"]


@pytest.mark.parametrize(
    ("channel", "deny", "status", "code"),
    [
        ("staff", Permission.NONE, 403, 50001),
        ("art", Permission.SEND_MESSAGES, 403, 50013),
        ("art", Permission.ATTACH_FILES, 403, 50013),
        ("sketches", Permission.SEND_MESSAGES_IN_THREADS, 403, 50013),
    ],
)
async def test_missing_rights(
    sandbox: Sandbox, bot: Bot, channel: str, deny: Permission, status: int, code: int
) -> None:
    parent = "art" if channel == "sketches" else channel
    if deny:
        sandbox.world.overwrite(parent, deny=deny)
    with pytest.raises(discord.Forbidden) as caught:
        await messageable(sandbox, bot, channel).send("hello", file=bot.file())
    assert (caught.value.status, caught.value.code) == (status, code)


async def test_closed_direct_messages(sandbox: Sandbox, bot: Bot) -> None:
    sandbox.world.user("mallory").accepts_dms = False
    mallory = await bot.fetch_user(sandbox.user("mallory").id)
    with pytest.raises(discord.Forbidden) as caught:
        await mallory.send("hello")
    assert caught.value.code == 50007


async def test_history_needs_its_right(sandbox: Sandbox, bot: Bot) -> None:
    channel = messageable(sandbox, bot, "art")
    message = await channel.send("hello")
    sandbox.world.overwrite("art", deny=Permission.READ_MESSAGE_HISTORY)
    assert [m async for m in channel.history()] == []
    with pytest.raises(discord.Forbidden):
        await channel.fetch_message(message.id)


async def test_others_messages_cannot_be_edited(sandbox: Sandbox, bot: Bot) -> None:
    message = await sandbox.user("bob").send("general", "mine")
    part = messageable(sandbox, bot, "general").get_partial_message(message.id)
    with pytest.raises(discord.Forbidden) as caught:
        await part.edit(content="yours")
    assert caught.value.code == 50005
    with pytest.raises(discord.Forbidden) as caught:
        await part.delete()
    assert caught.value.code == 50013


@pytest.mark.parametrize(
    ("kwargs", "field"),
    [
        ({"content": "x" * 2001}, "content"),
        ({"embed": discord.Embed(title="x" * 257)}, "embeds"),
        ({"embed": discord.Embed(description="x" * 4097)}, "embeds"),
        ({"embed": discord.Embed().add_field(name="n", value="x" * 1025)}, "embeds"),
        ({"embeds": [discord.Embed(description="x" * 3001)] * 2}, "embeds"),
        ({"content": "x", "nonce": "n" * 26}, "nonce"),
    ],
)
async def test_lengths(sandbox: Sandbox, bot: Bot, kwargs: dict[str, object], field: str) -> None:
    with pytest.raises(discord.HTTPException) as caught:
        await messageable(sandbox, bot, "general").send(**kwargs)  # type: ignore[arg-type]
    assert (caught.value.status, caught.value.code) == (400, 50035)
    errors = sandbox.exchanges[-1].response["errors"]
    assert list(errors) == [field]


def gallery(*urls: str, **about: Any) -> discord.ui.MediaGallery:
    return discord.ui.MediaGallery(*(discord.MediaGalleryItem(url, **about) for url in urls))


FAR = "https://example.org/a.png"


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([discord.ui.TextDisplay(" \n ")], "BASE_TYPE_REQUIRED"),
        ([discord.ui.TextDisplay("x" * 4001)], "BASE_TYPE_MAX_LENGTH"),
        ([discord.ui.TextDisplay("x" * 2001)] * 2, "BASE_TYPE_MAX_LENGTH"),
        ([gallery()], "BASE_TYPE_BAD_LENGTH"),
        ([gallery(*[FAR] * 10), gallery(*[FAR] * 11)], "BASE_TYPE_BAD_LENGTH"),
        ([gallery(FAR, description="x" * 1025)], "BASE_TYPE_MAX_LENGTH"),
        ([gallery("attachment://no.png")], "REFERENCED_ATTACHMENT_NOT_FOUND"),
        ([gallery("file:///etc/passwd")], "URL_TYPE_INVALID_SCHEME"),
        ([discord.ui.Container()], "BASE_TYPE_BAD_LENGTH"),
        ([discord.ui.Button(label="loose", custom_id="x")], "UNION_TYPE_CHOICES"),
        ([discord.ui.Separator()] * 41, "BASE_TYPE_BAD_LENGTH"),
        ([discord.ui.Container(*[discord.ui.Separator()] * 40)], "BASE_TYPE_BAD_LENGTH"),
    ],
)
async def test_what_no_layout_may_be(
    sandbox: Sandbox, bot: Bot, items: list[discord.ui.Item[Any]], code: str
) -> None:
    channel_id = sandbox.world.channel("general").id
    route = discord.http.Route("POST", f"/channels/{channel_id}/messages")
    components = [item.to_component_dict() for item in items]
    body = {"flags": int(Flag.COMPONENTS_V2), "components": components}
    with pytest.raises(discord.HTTPException) as caught:
        await bot.http.request(route, json=body)
    assert (caught.value.status, caught.value.code) == (400, 50035)
    assert code in str(sandbox.exchanges[-1].response)


async def test_a_layout_message_stays_one(sandbox: Sandbox, bot: Bot) -> None:
    channel = messageable(sandbox, bot, "general")
    plain = await channel.send("words", embed=discord.Embed(title="t"))
    view = discord.ui.LayoutView()
    view.add_item(discord.ui.TextDisplay("a card"))
    # What a message has besides stands in its way.
    for kept in ({}, {"content": None}, {"embed": None}):
        with pytest.raises(discord.HTTPException):
            await plain.edit(view=view, **kept)
    card = await plain.edit(content=None, embed=None, view=view)
    assert card.flags.components_v2
    for legacy in ({"content": "words"}, {"embed": discord.Embed(title="t")}):
        with pytest.raises(discord.HTTPException) as caught:
            await card.edit(**legacy)
        assert "COMPONENTS_V2" in str(sandbox.exchanges[-1].response)
        assert caught.value.code == 50035
    assert (await channel.fetch_message(card.id)).flags.components_v2


async def test_a_layout_pings_whom_its_texts_name_and_no_other(sandbox: Sandbox, bot: Bot) -> None:
    channel, alice, bob = messageable(sandbox, bot, "general"), *map(sandbox.user, ("alice", "bob"))
    view = discord.ui.LayoutView()
    view.add_item(discord.ui.Container(discord.ui.TextDisplay(f"<@{alice.id}> <@{bob.id}>")))
    alone = discord.AllowedMentions(users=[discord.Object(bob.id)], everyone=False, roles=False)
    assert not (await channel.send(view=view)).mentions
    pinging = await channel.send(view=view, allowed_mentions=alone)
    assert [user.id for user in pinging.mentions] == [bob.id]


async def test_empty_and_oversized(sandbox: Sandbox, bot: Bot) -> None:
    channel = messageable(sandbox, bot, "general")
    with pytest.raises(discord.HTTPException) as caught:
        await channel.send("")
    assert caught.value.code == 50006
    big = discord.File(io.BytesIO(bytes(10 * 1024 * 1024 + 1)), "big.bin")
    with pytest.raises(discord.HTTPException) as caught:
        await channel.send(file=big)
    assert (caught.value.status, caught.value.code) == (413, 40005)


async def test_nonce_is_enforced_for_some_minutes(sandbox: Sandbox, bot: Bot) -> None:
    channel = messageable(sandbox, bot, "general")
    first = await channel.send("once", nonce="job-1-m")
    again = await channel.send("once", nonce="job-1-m")
    other = await channel.send("once", nonce="job-2-m")
    sandbox.clock.advance(600)
    later = await channel.send("once", nonce="job-1-m")
    assert first.id == again.id
    assert len({first.id, other.id, later.id}) == 3


async def test_hidden_command(sandbox: Sandbox, bot: Bot) -> None:
    alice, bob = sandbox.user("alice"), sandbox.user("bob")
    assert (await (await alice.slash("general", "admin queue")).answer()).content == "queue"
    with pytest.raises(Refusal, match="may not use /admin"):
        await bob.slash("general", "admin queue")
    with pytest.raises(Refusal, match="may not use /admin"):
        await alice.slash("dm", "admin queue")
    forced = await bob.slash("general", "admin queue", force=True)
    assert (await forced.answer()).content == "denied"


async def test_commands_for_those_who_installed_the_app(sandbox: Sandbox, bot: Bot) -> None:
    commands = [{"name": "mine", "description": "x", "integration_types": [1], "contexts": [0, 1]}]
    await bot.http.bulk_upsert_global_commands(bot.application_id, commands)  # type: ignore[arg-type]
    chen = sandbox.user("chen")
    with pytest.raises(Refusal, match="may not use /mine"):
        await chen.slash("dm", "mine")
    chen.user.installed = True
    await chen.slash("dm", "mine")
    heard = await bot.interactions.get()
    assert heard.is_user_integration()


async def test_the_clock_moves_timers(sandbox: Sandbox) -> None:
    fired: list[str] = []
    clock = sandbox.clock
    clock.call_later(60, lambda: fired.append("second"))
    clock.call_later(30, lambda: (fired.append("first"), third.cancel()))
    third = clock.call_later(45, lambda: fired.append("third"))
    clock.advance(20)
    assert fired == []
    clock.advance(60)
    assert fired == ["first", "second"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "prompt is required"),
        ({"prompt": "x" * 101}, "1 to 100 characters"),
        ({"prompt": "x", "steps": 51}, "from 1 to 50"),
        ({"prompt": "x", "steps": "many"}, "not a valid value"),
        ({"prompt": "x", "size": 3}, "no option size"),
    ],
)
async def test_the_client_checks_options(
    sandbox: Sandbox, bot: Bot, options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(Refusal, match=sentence):
        await sandbox.user("alice").slash("general", "draw", **options)
    assert sandbox.world.interactions == {}


async def test_unknown_command_and_unseen_channel(sandbox: Sandbox, bot: Bot) -> None:
    with pytest.raises(Refusal, match="no command"):
        await sandbox.user("alice").slash("general", "nothing")
    with pytest.raises(Refusal, match="no such channel"):
        await sandbox.user("bob").slash("staff", "whisper")


async def test_bad_commands_are_refused(sandbox: Sandbox, bot: Bot) -> None:
    body = [{"name": "Draw", "description": ""}, {"name": "ok", "description": "fine"}]
    with pytest.raises(discord.HTTPException) as caught:
        await bot.http.bulk_upsert_global_commands(bot.application_id, body)  # type: ignore[arg-type]
    assert caught.value.code == 50035
    errors = sandbox.exchanges[-1].response["errors"]
    assert set(errors["0"]) == {"name", "description"}


async def test_bad_translations_are_refused(sandbox: Sandbox, bot: Bot) -> None:
    choice = {"name": "x", "value": "x", "name_localizations": {"zh-CN": "长" * 101}}
    option = {"type": 3, "name": "size", "description": "x", "choices": [choice]}
    option["name_localizations"] = {"zh-CN": "大 小"}
    body = [
        {
            "name": "draw",
            "description": "x",
            "name_localizations": {"zh-CN": "Draw"},
            "description_localizations": {"zh-CN": "长" * 101, "zh-TW": "短"},
            "options": [option],
        },
        {"name": "menu", "type": 3, "name_localizations": {"zh-CN": "长" * 33}},
    ]
    with pytest.raises(discord.HTTPException) as caught:
        await bot.http.bulk_upsert_global_commands(bot.application_id, body)  # type: ignore[arg-type]
    assert caught.value.code == 50035
    errors = sandbox.exchanges[-1].response["errors"]
    assert set(errors["0"]) == {"name_localizations", "description_localizations", "options"}
    assert set(errors["0"]["description_localizations"]) == {"zh-CN"}
    assert set(errors["0"]["options"]["0"]) == {"name_localizations", "choices"}
    assert set(errors["1"]) == {"name_localizations"}


async def test_guild_commands_stand_beside_global_ones(sandbox: Sandbox, bot: Bot) -> None:
    guild = bot.guilds[0]
    bot.tree.copy_global_to(guild=guild)
    synced = await bot.tree.sync(guild=guild)
    assert {command.guild_id for command in synced} == {guild.id}
    await synced[0].delete()
    assert len(await bot.tree.fetch_commands(guild=guild)) == len(synced) - 1
    call = await sandbox.user("bob").slash("general", "whisper")
    assert (await call.answer()).content == "psst"
