"""A prompt is data, whatever stands in it: over the wire, in the database, in the picture."""

from __future__ import annotations

import io
import json
import re
import unicodedata

import pytest
from PIL import Image

from bot.domain.request import ImageRequest
from bot.sandbox.errors import Refusal
from bot.sandbox.model import walk
from tests.engines import Script, ScriptedEngine
from tests.hostile.corpus import ACCEPTED, REFUSED
from tests.wire.kit import is_outcome, job_id_of, soon, staged, text_of

LIMITS = {"limit_open_jobs": 100, "limit_images_per_day": 1000}
_FORMAT_LINE = re.compile(r"^\s*(Negative prompt|Steps):", re.IGNORECASE)


def sent_messages(sandbox) -> list[dict]:
    """Every body with a message in it that the bot sent."""
    bodies = []
    for exchange in sandbox.exchanges:
        body = exchange.request
        if exchange.method not in {"POST", "PATCH"} or not isinstance(body, dict):
            continue
        if exchange.route.endswith("/callback"):
            body = body.get("data") or {}
        if {"content", "embeds", "components"} & body.keys():
            bodies.append(body)
    return bodies


def judge_bodies(sandbox, asker: int) -> None:
    """Nobody is pinged but who asked, and nothing is longer than Discord takes."""
    bodies = sent_messages(sandbox)
    assert bodies
    for body in bodies:
        allowed = body["allowed_mentions"]
        assert allowed.get("parse") == []
        assert {int(user) for user in allowed.get("users") or ()} <= {asker}
        assert not allowed.get("roles")
        assert len(body.get("content") or "") <= 2000
        texts = [
            item["content"] for item in walk(body.get("components") or []) if "content" in item
        ]
        for text in texts:
            # Who asked is named, in a line of its own or at the beginning of the small one.
            shown = re.sub(rf"^(-# )?<@{asker}>", "", text, flags=re.MULTILINE)
            assert "@everyone" not in shown
            assert "@here" not in shown
            assert not re.search(r"(?<!\\)(?:\\\\)*(<[@#/]|\]\(|```)", shown)
            assert not any(unicodedata.bidirectional(c) in {"RLO", "LRO", "RLI"} for c in shown)
            assert shown.count("\n") <= 40
        assert sum(map(len, texts)) <= 4000


def judge_picture(data: bytes, request: ImageRequest) -> None:
    """The picture's texts say the truth about it, and give the prompt back."""
    with Image.open(io.BytesIO(data)) as picture:
        texts = dict(picture.text)
    stored = json.loads(texts["request"])
    assert stored["prompt"] == request.prompt
    assert stored["negative_prompt"] == request.negative_prompt
    lines = texts["parameters"].split("\n")
    assert lines[-1].startswith(f"Steps: {request.steps}, Sampler: Euler, ")
    assert f"Seed: {request.seed}, Size: {request.width}x{request.height}, " in lines[-1]
    found = [
        line
        for line in re.split("[\n\u2028\u2029]", texts["parameters"])
        if _FORMAT_LINE.match(line)
    ]
    assert len(found) == (2 if request.negative_prompt else 1)


async def test_the_corpus_over_the_wire(sandbox, tmp_path, log):
    async with staged(sandbox, tmp_path, **LIMITS) as stage:
        for number, (name, prompt) in enumerate(ACCEPTED.items()):
            options = {"negative": prompt} if number % 2 else {}
            invocation = await stage.imagine("alice", prompt, seed=7, **options)
            message = await stage.outcome(invocation)
            job = await stage.job_of(message)
            await stage.delivered(job.id)
            expected = ImageRequest(prompt).prompt
            assert job.request.prompt == expected, name
            assert [file.filename for file in message.files] == [f"{job.id}_0.png"]
            assert len(message.files[0].description or "") <= 1024
            (record,) = await stage.queue.images(job.id)
            assert re.fullmatch(rf"\d{{4}}/\d\d/\d\d/{job.id}_0\.png", record.file)
            judge_picture(message.files[0].data, job.request)
            for line in expected.split("\n"):
                assert len(line) < 12 or line not in log.getvalue(), name
        judge_bodies(sandbox, sandbox.user("alice").id)
        assert await stage.jobs_made() == len(ACCEPTED)
    judge_log(log)


def judge_log(log) -> None:
    for line in log.getvalue().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (DEBUG|INFO|WARNING|ERROR) |    ", line)
        assert "forged" not in line


async def test_what_cannot_be_drawn_is_refused_in_a_sentence(stage, log):
    for name, prompt in REFUSED.items():
        invocation = await stage.imagine("alice", prompt)
        response = await invocation.response()
        assert response.message.ephemeral, name
        assert re.search(r"control character|broken character|is empty", response.message.content)
    assert await stage.jobs_made() == 0
    judge_log(log)


async def test_six_thousand_characters_never_arrive(stage):
    with pytest.raises(Refusal):
        await stage.imagine("alice", "x" * 6000)
    with pytest.raises(Refusal):
        await stage.imagine("alice", "x", negative="y" * 6000)


@pytest.mark.slow
async def test_the_corpus_by_direct_message(sandbox, tmp_path, log):
    prompts = {name: text for name, text in ACCEPTED.items() if len(text) <= 2000}
    async with staged(sandbox, tmp_path, **LIMITS) as stage:
        chen = sandbox.user("chen")
        for number, prompt in enumerate(prompts.values(), 1):
            await chen.send("dm", prompt)
            answers = await dm_outcomes(sandbox, chen, number)
            job = await stage.job_of(answers[-1])
            assert job.request.prompt == ImageRequest(prompt).prompt
            judge_picture(answers[-1].files[0].data, job.request)
        for number, prompt in enumerate(set(REFUSED) - {"blank"}, len(prompts) + 1):
            await chen.send("dm", REFUSED[prompt])
            await sandbox.wait(
                lambda: len([m for m in chen.messages("dm") if m.author.bot]) >= number  # noqa: B023
            )
            assert "character" in chen.messages("dm")[-1].content
        assert await stage.jobs_made() == len(prompts)
        judge_bodies(sandbox, chen.id)
    judge_log(log)


async def dm_outcomes(sandbox, person, count):
    def found():
        messages = [m for m in person.messages("dm") if m.author.bot and is_outcome(m)]
        return messages if len(messages) >= count else None

    return await sandbox.wait(found)


async def test_lists_hold_any_prompt(sandbox, tmp_path):
    engine = ScriptedEngine(Script(), Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine, **LIMITS) as stage:
        await stage.outcome(await stage.imagine("alice", "measured, so that times are shown"))
        for _ in range(12):
            last = await stage.imagine("alice", "*" * 4000)
            await last.response()
        await soon(engine.holding.wait())
        pause = await sandbox.user("alice").slash("general", "admin pause", reason="*" * 200)
        await pause.response()
        listed = await (await sandbox.user("alice").slash("general", "queue")).response()
        assert 0 < len(listed.message.content) <= 2000
        everyone = await (await sandbox.user("alice").slash("general", "admin queue")).response()
        assert 0 < len(everyone.message.content) <= 2000
        waiting = job_id_of(await last.answer())
        shown = await (await sandbox.user("alice").slash("general", "show", job=waiting)).response()
        assert "paused" in text_of(shown.message)
        engine.release.set()
