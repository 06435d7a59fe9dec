"""Every button, menu and form, used by those whom it does not belong to: whatever is registered."""

from __future__ import annotations

import discord
import pytest

from bot.client.compose_form import ComposeForm
from bot.client.forms import PREFIX, Form
from bot.messages.more import more_of
from bot.sandbox.model import Modal
from bot.sandbox.people import Invocation
from cogs.compose import EarlierForm
from tests.engines import Script, ScriptedEngine
from tests.hostile.corpus import ACCEPTED
from tests.wire.kit import job_id_of, soon, staged, text_of

pytestmark = pytest.mark.slow

# One custom_id for each registered class, with what is chosen where it is a menu.
SAMPLES: dict[str, tuple[str, str | None]] = {
    "RefreshButton": ("refresh:queue", None),
    "PageButton": ("page:before:{job}:", None),
    "OpenMenu": ("open:history", "{job}"),
    "FamilyMenu": ("family:history", "{job}"),
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
    "RemixButton": ("edit:{job}", None),
    "EditButton": ("instruct:{job}.0", None),
    "DetailsButton": ("details:{job}", None),
    "DeleteButton": ("delete:{job}", None),
    "FinishButton": ("finish:{job}.0", None),
    "PostButton": ("post:{job}", None),
    "PickControl": ("pick:{job}.1", None),
    "MoreMenu": ("more:{job}.0", "zoom20"),
    "DrawButton": ("draw:{job}", None),
    "ChangeButton": ("change:{job}", None),
    "OwnButton": ("own:{job}", None),
    "ImagineButton": ("imagine:{job}", None),
}
# Whose answer to a stranger is a refusal; the others give what anyone may have.
REFUSED = {
    "OpenMenu", "FamilyMenu", "PreferenceMenu", "PreferenceButton", "DeleteReported", "BlockReported",
    "EveryonePageButton", "EndJobMenu", "AuditPageButton", "CancelButton", "UnqueueButton", "DeleteButton", "PostButton",
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


async def rows_of(stage, user_id: int) -> list[list[tuple[object, ...]]]:
    found = []
    for sql in UNTOUCHED:
        read = await stage.database.read(lambda tx, sql=sql: tx.all(sql, (user_id,)))
        found.append([tuple(row) for row in read])
    return found


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

        before = await rows_of(stage, alice.id)
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
            assert await rows_of(stage, alice.id) == before, control
        engine.release.set()


async def test_the_menu_more_does_what_it_offers_for_anybody(sandbox, tmp_path):
    """All of its options, as it shows them: each draws at the one's cost who chose it."""
    bob, alice = sandbox.user("bob"), sandbox.user("alice")
    async with staged(sandbox, tmp_path, limit_open_jobs=50) as stage:
        asked = await stage.imagine("alice", "x", aspect="1:1")
        varied = await alice.press(await stage.outcome(asked), "Vary")
        message = await stage.outcome(varied)
        (menu,) = [one for one in message.controls if str(one["custom_id"]).startswith("more:")]
        values = [option["value"] for option in menu["options"]]
        assert tuple(values) == more_of(await stage.job_of(message), single=True)
        before = await rows_of(stage, alice.id)
        for value in values:
            used = await bob.select(message, menu["custom_id"], value)
            text = await said(used)
            assert text, value
            assert "went wrong" not in text, value
        assert await rows_of(stage, alice.id) == before


# What a form's state may be, from a real one's to none at all.
STATES = (
    "{job}", "{job}.0", "{job}.9", "{job},{message}", "kept.{job}.0", "kept.x.2", "kept.{job}.9", "{job}.0.1",
    "guild", "user", "", ".", ",", "|" * 9, "model={job}|", "x" * 60, "\u202e%s", "-1", "0",
)  # fmt: skip


def shown(form: Form) -> Modal:
    """A form as Discord would show it."""
    custom_id = f"{PREFIX}:{form.name}:{form.state}"
    modal = discord.ui.Modal(title=form.title(), custom_id=custom_id, timeout=None)
    # What it shows depends on who opened it; a forged one brings what it likes.
    fields = EarlierForm(form.state) if isinstance(form, ComposeForm) else form
    for field in fields.fields():
        modal.add_item(field)
    modal.stop()
    parts = modal.to_dict()["components"]
    for number, part in enumerate(parts, 1):
        part["id"], part["component"]["id"] = number, 100 + number
    return Modal(custom_id, form.title(), parts)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("name", "place"), [("bob", "general"), ("mallory", "art"), ("bob", "dm")])
async def test_a_stranger_changes_and_learns_nothing_by_any_form(sandbox, tmp_path, name, place):
    person, alice = sandbox.user(name), sandbox.user("alice")
    hostile = [text for text in ACCEPTED.values() if len(text) <= 100]
    async with staged(sandbox, tmp_path, image_models="tiny-edit", limit_open_jobs=500) as stage:
        hidden = await stage.outcome(await stage.imagine("alice", "a secret boat", private=True))
        ids = {"job": job_id_of(hidden), "message": hidden.id}
        before = await rows_of(stage, alice.id)
        # Other tests register forms of their own.
        forms = {n: f for n, f in Form.known.items() if f.__module__.startswith(("bot.", "cogs."))}
        assert len(forms) >= 6
        for number, (kind, form) in enumerate(forms.items()):
            for state in (template.format(**ids) for template in STATES):
                source = await person.slash(place, "help")
                await source.response()
                modal = shown(form(state))
                source.interaction.modal = modal
                inputs = [part["component"] for part in modal.components]
                text = hostile[number % len(hostile)]
                values = {
                    one["custom_id"]: text[: one.get("max_length", 100)]
                    for one in inputs
                    if one["type"] == discord.ComponentType.text_input.value
                }
                told = await said(await person.submit_modal(source, values))
                assert told, (kind, state)
                assert "Something went wrong" not in told, (kind, state)
                assert "secret boat" not in told, (kind, state)
                assert await rows_of(stage, alice.id) == before, (kind, state)
