"""`/admin` over the wire: pages, drain, statistics, health, audit, and what is the owner's."""

from __future__ import annotations

import io
import re

import discord
import pytest
from PIL import Image

from bot.domain.job import JobState
from bot.engine.protocol import EngineState
from bot.errors import EngineError, EngineErrorKind
from bot.messages import charts
from bot.sandbox import gateway
from bot.sandbox.scene import ADMIN_ROLE_ID, GUILD_ID
from storage import audit
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import PATIENCE_S, job_id_of, soon, staged


def moderator(sandbox, name):
    """Let someone manage the server who does not own the bot."""
    person = sandbox.user(name)
    sandbox.world.guild.members[person.id].roles.append(ADMIN_ROLE_ID)
    return person


async def answer(stage, name, command, place="general", **options):
    return await (await stage.sandbox.user(name).slash(place, command, **options)).answer()


async def ask(stage, count, name="bob"):
    return [
        job_id_of(await (await stage.imagine(name, f"house {n}")).answer()) for n in range(count)
    ]


async def audited(stage):
    return [
        (row["action"], row["actor_id"])
        for row in await stage.database.read(
            lambda tx: tx.all("SELECT action, actor_id FROM audit ORDER BY id")
        )
    ]


async def test_everyones_queue_in_pages_also_after_a_restart(sandbox, tmp_path):
    alice = sandbox.user("alice")
    async with staged(sandbox, tmp_path, limit_open_jobs=20) as stage:
        await stage.queue.control.pause("x", by=alice.id)
        asked = await ask(stage, 12)
        invocation = await alice.slash("general", "admin queue")
        page = await invocation.answer()
        assert [job_id in page.content for job_id in asked] == [True] * 10 + [False] * 2
        assert "and 2 more" in page.content
    async with staged(sandbox, tmp_path, limit_open_jobs=20) as stage:
        turned = await (await alice.press(page, "Next")).answer()
        assert [job_id in turned.content for job_id in asked] == [False] * 10 + [True] * 2
        chosen = await alice.select(turned, "endjob:1", asked[11])
        page = await chosen.until(lambda message: asked[11] not in message.content)
        assert asked[10] in page.content
        await sandbox.world.events.wait(lambda: chosen.followups, PATIENCE_S)
        assert [m.content for m in chosen.followups] == ["Cancelled."]
        assert (await stage.queue.job(asked[11])).state is JobState.CANCELLED
        assert await audited(stage) == [("pause", alice.id), ("cancel", alice.id)]


async def test_controls_ask_who_presses_them(stage):
    await stage.queue.control.pause("x", by=1)
    (job_id,) = await ask(stage, 1)
    view = discord.ui.View(timeout=None)
    for custom_id in ("everyone:stay:0", "audit:newer:0:0:"):
        view.add_item(discord.ui.Button(label=custom_id, custom_id=custom_id))
    option = discord.SelectOption(label="x", value=job_id)
    view.add_item(discord.ui.Select(custom_id="endjob:0", options=[option]))
    view.stop()
    alice, mallory = stage.sandbox.user("alice"), stage.sandbox.user("mallory")
    channel = stage.app.client.get_channel(alice.place("general").id)
    await channel.send("left open", view=view)
    (message,) = [m for m in alice.messages("general") if m.content == "left open"]
    for pressed in (
        await mallory.press(message, "everyone:stay:0"),
        await mallory.press(message, "audit:newer:0:0:"),
        await mallory.select(message, "endjob:0", job_id),
    ):
        refused = await pressed.answer()
        assert refused.ephemeral
        assert "Manage Server" in refused.content
    assert (await stage.queue.job(job_id)).state is JobState.QUEUED


async def test_a_server_sees_nothing_of_another(stage):
    mallory = moderator(stage.sandbox, "mallory")
    await stage.queue.control.pause("elsewhere's reason", by=5, guild_id=12345)
    other = await stage.imagine("bob", "a secret house", "dm")
    job_id = job_id_of(await other.answer())
    page = await (await mallory.slash("general", "admin queue")).answer()
    assert job_id not in page.content
    assert "queue is empty" in page.content
    assert "Nothing was done" in (await answer(stage, "mallory", "admin audit")).content
    assert "0 running, 0 waiting" in (await answer(stage, "mallory", "admin health")).content
    await stage.queue.control.resume(by=5, guild_id=12345)
    assert "days: 0*" in (await answer(stage, "mallory", "admin stats")).content


async def test_the_owner_sees_all_of_it(sandbox, tmp_path):
    async with staged(sandbox, tmp_path) as stage:
        await stage.queue.control.pause("elsewhere's reason", by=5, guild_id=12345)
        other = await stage.imagine("bob", "a secret house", "dm")
        job_id = job_id_of(await other.answer())
        assert job_id in (await answer(stage, "alice", "admin queue")).content
        listing = (await answer(stage, "alice", "admin audit")).content
        assert "elsewhere's reason" in listing
        assert "12345" in listing
        assert "0 running, 1 waiting" in (await answer(stage, "alice", "admin health")).content
        assert "days: 1*" in (await answer(stage, "alice", "admin stats")).content


async def test_a_drain_tells_those_who_ask_and_ends_with_resume(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine) as stage:
        running = await stage.imagine("bob", "last one")
        await soon(engine.holding.wait())
        said = await answer(stage, "alice", "admin drain", reason="new card @everyone")
        assert "No new requests are taken: new card" in said.content
        refused = await (await stage.imagine("mallory", "too late")).answer()
        assert refused.ephemeral
        assert "no new requests for now: new card" in refused.content
        engine.release.set()
        assert (await stage.outcome(running)).files
        assert stage.queue.control.paused == "new card @everyone"
    async with staged(sandbox, tmp_path) as stage:
        assert "new card" in (await (await stage.imagine("chen", "x")).answer()).content
        assert "running again" in (await answer(stage, "alice", "admin resume")).content
        assert (await stage.outcome(await stage.imagine("chen", "x"))).files
        assert [action for action, _ in await audited(stage)] == ["drain", "resume"]


@pytest.mark.slow
async def test_statistics_as_a_picture(stage):
    await stage.outcome(await stage.imagine("bob", "a house"))
    shown = await answer(stage, "alice", "admin stats", days=7)
    assert "7 days: 1" in shown.content
    assert f"<@{stage.sandbox.user('bob').id}> 100%" in shown.content
    with Image.open(io.BytesIO(shown.files[0].data)) as picture:
        assert picture.size == (1320, 840)
        assert len(picture.convert("RGB").getcolors(2**20)) > 100


async def test_statistics_as_text_where_nothing_draws(stage, monkeypatch):
    monkeypatch.setattr(charts, "available", lambda: False)
    await stage.outcome(await stage.imagine("bob", "a house"))
    shown = await answer(stage, "alice", "admin stats")
    assert not shown.files
    assert "1: 1 drawn, 0 failed" in shown.content
    assert re.search(r"50 % ≤ \d s", shown.content)


async def test_health_speaks_of_the_machine_and_of_faults(sandbox, tmp_path, monkeypatch):
    # The first heartbeat's answer is there before anything is asked.
    monkeypatch.setattr(gateway, "ACK_S", 0)
    fault = EngineError(EngineErrorKind.DIED, "signal 9")
    engine = ScriptedEngine(Script(error=fault))
    async with staged(sandbox, tmp_path, engine) as stage:
        message = await stage.outcome(await stage.imagine("bob", "a house"))
        shown = (await answer(stage, "alice", "admin health")).content
        known = job_id_of(message)
    assert "signal 9" in shown
    assert known in shown
    for words in ("Version 0", "Gateway: ", " ms", "GiB free", "MiB", "tiny", "1 server"):
        assert words in shown


async def test_the_audit_in_pages_and_by_filter(sandbox, tmp_path):
    alice, bob = sandbox.user("alice"), sandbox.user("bob")

    async def write(tx):
        for number in range(25):
            await audit.record(
                tx,
                1_800_000_000.0 + number,
                actor_id=alice.id if number % 5 else bob.id,
                guild_id=GUILD_ID,
                action="pause" if number % 2 else "resume",
                detail=f"entry{number:02} <@&1>",
            )

    async with staged(sandbox, tmp_path) as stage:
        await stage.database.write(write)
        page = await answer(stage, "alice", "admin audit", action="pause", actor=alice.id)
        wanted = [f"entry{n:02}" for n in range(24, -1, -1) if n % 2 and n % 5]
        assert [name for name in wanted if name in page.content] == wanted[:10]
        assert page.content.index(wanted[0]) < page.content.index(wanted[1])
        assert "entry05" not in page.content
        page = await answer(stage, "alice", "admin audit")
    async with staged(sandbox, tmp_path) as stage:
        page = await (await alice.press(page, "Older")).answer()
        page = await (await alice.press(page, "Older")).answer()
        assert [f"entry{n:02}" in page.content for n in range(6)] == [True] * 5 + [False]
        page = await (await alice.press(page, "Newer")).answer()
        assert "entry14" in page.content


async def test_the_audit_says_what_was_set_and_of_whom(stage):
    alice = stage.sandbox.user("alice")
    role, channel = alice.place("art").guild.id, alice.place("art").id  # The role of everyone.
    for command, options in (
        ("limit role", {"role": role, "images": 5}),
        ("limit role", {"role": role, "minutes": 2.5, "weight": 2}),
        ("limit role", {"role": ADMIN_ROLE_ID, "images": 7}),
        ("limit server", {}),
        ("channel deny", {"where": channel}),
        ("rule add", {"rule": "gore"}),
    ):
        await answer(stage, "alice", f"admin {command}", **options)
    listed = (await answer(stage, "alice", "admin limit list")).content
    assert listed.splitlines()[1].startswith("@everyone: ")
    old = f"limit of role {role}: 5 pictures, None min, weight None"
    await stage.app.client.services.preferences.edit_guild(
        alice.place("art").guild.id, lambda _: {}, by=alice.id, detail=old
    )
    shown = (await answer(stage, "alice", "admin audit")).content
    assert [line.partition("**settings** · ")[2] for line in reversed(shown.splitlines())] == [
        f"limit of @everyone: 5 pictures · `{GUILD_ID}`",
        f"limit of @everyone: 2.5 min, weight 2 · `{GUILD_ID}`",
        f"limit of <@&{ADMIN_ROLE_ID}>: 7 pictures · `{GUILD_ID}`",
        f"limit of the server: none · `{GUILD_ID}`",
        f"<#{channel}>: closed · `{GUILD_ID}`",
        f"rule added: gore · `{GUILD_ID}`",
        f"limit of @everyone: 5 pictures · `{GUILD_ID}`",
    ]


async def test_reload_and_sync_are_the_owners(sandbox, tmp_path):
    engine = ScriptedEngine(loaded=False)
    alice = sandbox.user("alice")
    moderator(sandbox, "bob")
    async with staged(sandbox, tmp_path, engine) as stage:
        for command in ("admin reload", "admin sync"):
            assert "Only the bot's owner" in (await answer(stage, "bob", command)).content
        assert engine.state is EngineState.STOPPED
        assert await audited(stage) == []
        assert "loaded again" in (await answer(stage, "alice", "admin reload")).content
        assert engine.unloaded.is_set()
        assert engine.state is EngineState.IDLE
        assert "commands were sent" in (await answer(stage, "alice", "admin sync")).content
        assert await audited(stage) == [("reload", alice.id), ("sync", alice.id)]
