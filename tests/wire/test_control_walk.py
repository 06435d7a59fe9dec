"""Every button and menu, used by those whom it does not belong to: taken from what is registered."""

from __future__ import annotations

import discord
import pytest

from bot.sandbox.people import Invocation
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import soon, staged, text_of

pytestmark = pytest.mark.slow

# One custom_id for each registered class, with what is chosen where it is a menu.
SAMPLES: dict[str, tuple[str, str | None]] = {
    "RefreshButton": ("refresh:queue", None),
    "PageButton": ("page:before:{job}:", None),
    "OpenMenu": ("open:history", "{job}"),
    "PreferenceMenu": ("prefs:guild:language", "zh_CN"),
    "PreferenceButton": ("pref:guild:private", None),
    "WipeButton": ("wipe:mine", None),
    "DeleteReported": ("rdelete:{job}", None),
    "BlockReported": ("rblock:{alice}", None),
    "EveryonePageButton": ("everyone:stay:0", None),
    "EndJobMenu": ("endjob:0", "{waiting}"),
    "AuditPageButton": ("audit:older:0:0:", None),
    "CancelButton": ("cancel:{waiting}", None),
    "UnqueueButton": ("unqueue:{waiting}", None),
    "RerollButton": ("reroll:{job}", None),
    "VaryButton": ("vary:{job}.0", None),
    "UpscaleButton": ("upscale:{job}.0", None),
    "EditButton": ("edit:{job}", None),
    "DetailsButton": ("details:{job}", None),
    "DeleteButton": ("delete:{job}", None),
    "PickMenu": ("pick:{job}", "1"),
}
# Whose answer to a stranger is a refusal; the others give what anyone may have.
REFUSED = {
    "OpenMenu", "PreferenceMenu", "PreferenceButton", "DeleteReported", "BlockReported",
    "EveryonePageButton", "EndJobMenu", "AuditPageButton", "CancelButton", "UnqueueButton", "DeleteButton",
}  # fmt: skip
UNTOUCHED = (
    "SELECT id, state, deleted_at, cancel_requested_at FROM jobs WHERE user_id = ? ORDER BY id",
    "SELECT settings FROM guilds WHERE ? ORDER BY id",
    "SELECT user_id FROM blocks WHERE ?",
    "SELECT action FROM audit WHERE ?",
)


def registered(stage) -> set[str]:
    items = stage.app.client._connection._view_store._dynamic_items
    return {item.__name__ for item in items.values()}


async def said(invocation: Invocation) -> str:
    response = await invocation.response()
    if response.modal is not None:
        return response.modal.title
    message = response.message or await invocation.answer()
    return text_of(message) or str([embed.get("title") for embed in message.embeds])


def with_controls(names: list[str], **ids: object) -> discord.ui.View:
    view = discord.ui.View(timeout=None)
    for name in names:
        template, value = SAMPLES[name]
        custom_id = template.format(**ids)
        if value is None:
            view.add_item(discord.ui.Button(label=name, custom_id=custom_id))
        else:
            option = discord.SelectOption(label="it", value=value.format(**ids))
            view.add_item(discord.ui.Select(custom_id=custom_id, options=[option]))
    view.stop()
    return view


@pytest.mark.parametrize(("name", "place"), [("bob", "art"), ("mallory", "art"), ("bob", "dm")])
async def test_a_stranger_changes_nothing_with_any_control(sandbox, tmp_path, name, place):
    engine = ScriptedEngine(Script(), Script(hold_at=1))
    person, alice = sandbox.user(name), sandbox.user("alice")
    async with staged(sandbox, tmp_path, engine) as stage:
        assert registered(stage) == set(SAMPLES), "a new control wants a line in SAMPLES"
        done = await stage.job_of(await stage.outcome(await stage.imagine("alice", "x", count=2)))
        await stage.imagine("alice", "held")
        await soon(engine.holding.wait())
        waiting = await stage.imagine("alice", "waits")
        await waiting.response()
        (last,) = [job for job in await stage.queue.open_jobs() if job.state == "queued"]
        ids = {"job": done.id, "waiting": last.id, "alice": alice.id}

        async def rows() -> list[list[tuple[object, ...]]]:
            found = []
            for sql in UNTOUCHED:
                read = await stage.database.read(lambda tx, sql=sql: tx.all(sql, (alice.id,)))
                found.append([tuple(row) for row in read])
            return found

        before = await rows()
        channel = stage.app.client.get_partial_messageable(person.place(place).id)
        for control, (template, value) in SAMPLES.items():
            posted = await channel.send("controls", view=with_controls([control], **ids))
            (message,) = [m for m in person.messages(place) if m.id == posted.id]
            custom_id = template.format(**ids)
            if value is None:
                used = await person.press(message, custom_id)
            else:
                used = await person.select(message, custom_id, value.format(**ids))
            text = await said(used)
            assert text, control
            assert "Something went wrong" not in text, control
            refused = any(
                word in text for word in ("Only", "no job of yours", "no such", "not fit")
            )
            assert refused or control not in REFUSED, (control, text)
            assert await rows() == before, control
        engine.release.set()
