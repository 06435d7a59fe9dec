"""`/imagine` over the wire: command, progress, picture, refusals."""

from __future__ import annotations

import asyncio
import hashlib
import io

import pytest
from PIL import Image

from bot.domain.job import JobState
from bot.rules.refusals import ShuttingDown
from bot.sandbox.interactions import open_interaction
from bot.sandbox.model import Callback, InteractionType
from bot.sandbox.people import Invocation
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import byline_of, controls, gallery_of, job_id_of, soon, staged, text_of

HOSTILE = [
    "@everyone @here <@1100000000000000202> <@&1100000000000000101> <#1100000000000000111>",
    "```\ncode fence\n``` `x` **bold** [link](https://example.org) ||spoiler||",
    "\u202eright to left\u202c and zero\u200bwidth",
    "# heading\n- list\n> quote\n1. one",
    "e" + "\u0301" * 1000,
    "人工智能 " * 300,
    "' OR 1=1; DROP TABLE jobs; --",
    "../../etc/passwd\n%s %n {0} ${HOME} $(id)",
]


async def test_a_picture_arrives(stage):
    invocation = await stage.imagine("alice", "a lighthouse at night", seed=7, aspect="16:9")
    response = await invocation.response()
    assert response.kind is Callback.MESSAGE
    assert "a lighthouse at night" in text_of(response.message)
    assert controls(response.message) == [f"cancel:{job_id_of(response.message)}"]
    message = await stage.outcome(invocation)
    job = await stage.job_of(message)
    (record,) = await stage.queue.images(job.id)
    on_disk = (stage.app.settings.images_dir / record.file).read_bytes()
    assert message.files[0].data == on_disk
    assert hashlib.sha256(on_disk).hexdigest() == record.sha256
    assert (record.width, record.height, record.seed) == (384, 256, 7)
    with Image.open(io.BytesIO(message.files[0].data)) as picture:
        assert picture.size == (384, 256)
        assert "a lighthouse at night" in picture.text["parameters"]
        assert "Seed: 7" in picture.text["parameters"]
    # Seed and id are in Details alone.
    assert byline_of(message) == [f"<@{job.user_id}>", "384x256", "3.0 s"]
    (shown,) = gallery_of(message)
    assert shown["media"]["url"] == message.files[0].url
    assert shown["description"] == message.files[0].description == "a lighthouse at night"


async def test_everything_is_logged(stage):
    invocation = await stage.imagine("bob", "a boat", count=2, negative="fog", guidance=3.5)
    message = await stage.outcome(invocation)
    delivery = await stage.delivered(job_id_of(message))
    assert (delivery.state, delivery.rung, delivery.token) == ("delivered", "token", None)
    assert delivery.message_id == delivery.sent_message_id == message.id
    job = await stage.job_of(message)
    assert job.state is JobState.GENERATED
    assert (job.user_id, job.channel_id) == (stage.sandbox.user("bob").id, message.channel.id)
    assert (job.request.negative_prompt, job.request.guidance, job.request.count) == ("fog", 3.5, 2)
    assert job.timings["total"] == 3.0
    assert job.attempts == 1
    first, second = await stage.queue.images(job.id)
    assert second.seed == first.seed + 1
    assert [file.filename for file in message.files] == [f"{job.id}_0.png", f"{job.id}_1.png"]
    shown = gallery_of(message)
    assert [one["media"]["url"] for one in shown] == [file.url for file in message.files]
    assert [one["description"] for one in shown] == ["1 of 2: a boat", "2 of 2: a boat"]


async def test_a_job_costs_few_commits(stage):
    before = stage.database.commits
    message = await stage.outcome(await stage.imagine("bob", "a boat"))
    await stage.delivered(job_id_of(message))
    assert stage.database.commits - before <= 10


async def test_progress_is_shown(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr("bot.delivery.progress.RUNNING_PACE_S", 0.05)
    engine = ScriptedEngine(Script(hold_at=4), loaded=False)
    async with staged(sandbox, tmp_path, engine) as stage:
        invocation = await stage.imagine("alice", "slow")
        message = await invocation.until(lambda m: "Step 4 of 10" in text_of(m))
        assert "40%" in text_of(message)
        engine.release.set()
        await stage.outcome(invocation)


async def test_a_private_picture_is_seen_by_its_user_alone(stage):
    invocation = await stage.imagine("alice", "secret", private=True)
    message = await stage.outcome(invocation)
    assert message.ephemeral
    assert message in stage.sandbox.user("alice").messages("general")
    assert message not in stage.sandbox.user("bob").messages("general")


@pytest.mark.slow
@pytest.mark.parametrize("prompt", HOSTILE, ids=range(len(HOSTILE)))
async def test_a_hostile_prompt_is_only_text(stage, prompt):
    invocation = await stage.imagine("mallory", prompt)
    message = await stage.outcome(invocation)
    assert not message.mentions
    assert not message.mention_everyone
    assert message.files
    job = await stage.job_of(message)
    assert job.request.prompt == prompt.strip()
    sent = [e.request for e in stage.sandbox.exchanges if isinstance(e.request, dict)]
    bodies = [body.get("data", body) for body in sent]
    messages = [body for body in bodies if isinstance(body, dict) and "components" in body]
    assert len(messages) >= 2
    assert all(body["allowed_mentions"]["parse"] == [] for body in messages)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("x" * 6000, "at most 4,000"),
        ("nul\x00byte", "control character"),
        ("half \ud83d emoji", "broken character"),
        ("   \u3000 ", "empty"),
    ],
)
async def test_a_bad_prompt_is_refused_in_words(stage, prompt, words):
    invocation = send_unchecked(stage, prompt)
    message = await invocation.answer()
    assert words in message.content
    assert message.ephemeral
    assert await stage.jobs_made() == 0


def send_unchecked(stage, prompt):
    """Send what Discord's own client would not: the bot must hold by itself."""
    world, bob = stage.sandbox.world, stage.sandbox.user("bob")
    options = [{"name": "prompt", "type": 3, "value": prompt}]
    data = {"id": "1", "name": "imagine", "type": 1, "options": options}
    place = bob.place("general")
    interaction = open_interaction(
        world, InteractionType.COMMAND, bob.user, place, data, name="imagine"
    )
    return Invocation(world, interaction)


async def test_the_limit_of_open_jobs(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine, limit_open_jobs=2) as stage:
        accepted = [await stage.imagine("alice", f"picture {n}") for n in range(2)]
        for invocation in accepted:
            await invocation.response()
        refused = await (await stage.imagine("alice", "one more")).answer()
        assert "limit" in refused.content
        assert refused.ephemeral
        assert "mine" in text_of(await (await stage.imagine("bob", "mine")).answer())
        engine.release.set()
        for invocation in accepted:
            await stage.outcome(invocation)


async def test_the_daily_limit_says_what_is_left_and_when_it_ends(sandbox, tmp_path):
    async with staged(sandbox, tmp_path, limit_images_per_day=3) as stage:
        await stage.outcome(await stage.imagine("alice", "two", count=2))
        refused = await (await stage.imagine("alice", "two more", count=2)).answer()
        assert "1" in refused.content
        assert "<t:" in refused.content
        await stage.outcome(await stage.imagine("alice", "the last"))


async def test_a_replayed_event_makes_no_second_job(stage):
    invocation = await stage.imagine("alice", "once")
    await stage.outcome(invocation)
    stage.sandbox.gateway.replay(invocation.interaction)
    again = await stage.imagine("bob", "after")
    await stage.outcome(again)
    assert await stage.jobs_made() == 2


async def test_two_users_take_turns(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine) as stage:
        asked = await stage.in_turn("alice", "alice 0", "alice 1", "alice 2")
        asked += await stage.in_turn("bob", "bob 0")
        engine.release.set()
        for invocation in asked:
            await stage.outcome(invocation)
        order = [request.prompt for request in engine.requests]
        assert order == ["alice 0", "bob 0", "alice 1", "alice 2"]


async def test_a_late_refusal_that_cannot_be_told_is_no_unforeseen_fault(
    stage, monkeypatch, caplog
):
    decided = asyncio.Event()

    async def refuse(*_: object, **__: object) -> None:
        await decided.wait()
        raise ShuttingDown

    monkeypatch.setattr("bot.client.accept.DIRECT_ANSWER_S", 0)
    monkeypatch.setattr(stage.queue, "submit", refuse)
    cut = stage.sandbox.faults.reset("PATCH", "/webhooks/*")
    assert (await (await stage.imagine("alice", "a boat")).response()).deferred
    decided.set()
    await soon(cut.reached.wait())
    await soon(stage.app.client.services.intake.settled())
    assert "the first response failed" in caplog.text
    assert "unexpected error" not in caplog.text


async def test_flags_are_read_and_others_named_once_to_the_one_who_typed_them(stage):
    bob = stage.sandbox.user("bob")
    asked = await stage.imagine("bob", "a fish --ar 3:4 --seed 9 --v 7")
    message = await stage.outcome(asked)
    request = (await stage.job_of(message)).request
    assert (request.prompt, request.aspect, request.seed) == ("a fish", "3:4", 9)
    await stage.sandbox.wait(lambda: asked.followups)
    (told,) = asked.followups
    assert told.ephemeral
    assert told.content == "-# Left out, since this bot does not know it: --v 7"
    shown = await (await bob.press(message, "Details")).answer()
    assert "Read in the prompt: --ar 3:4 --seed 9" in shown.content
