"""Hundreds of hostile prompts by every way in: nobody is pinged, no message breaks, no job is lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.domain.request import ImageRequest
from bot.errors import InvalidRequest
from bot.sandbox.errors import Refusal
from tests.hostile.many import DRAWN, REFUSED
from tests.hostile.test_prompts import LIMITS, sent_messages
from tests.hostile.test_texts import TEXTS
from tests.wire.kit import job_id_of, staged

SMALL = {"aspect": "1:1", "quality": "fast"}
AT_ONCE = 8


def test_the_corpus_is_large_enough():
    assert len(set(DRAWN)) + len(set(REFUSED)) >= 300


def judge(stage) -> None:
    """Every message that the bot sent pings nobody, except its author, and fits Discord's limits.

    The sandbox refuses what Discord does; with its description at hand each exchange is judged by
    that, too, when the sandbox ends.
    """
    people = {stage.sandbox.user(name).id for name in ("alice", "bob", "chen")}
    bodies = [body for body in sent_messages(stage.sandbox) if "title" not in body]  # no forms
    assert bodies
    for body in bodies:
        allowed = body["allowed_mentions"]
        assert allowed.get("parse") == []
        assert not allowed.get("roles")
        assert {int(user) for user in allowed.get("users") or ()} <= people
        assert len(body.get("content") or "") <= 2000
    refused = [e for e in stage.sandbox.exchanges if e.status == 400]
    assert not refused, [(e.route, e.response) for e in refused][:3]
    failed = [m.content for m in said(stage) if "went wrong" in m.content]
    assert not failed


def said(stage):
    return [m for name in ("alice", "bob") for m in stage.sandbox.user(name).messages("general")]


async def many(items, work) -> None:
    """Do `work` for all items, some at once."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(item) -> None:
        async with room:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for item in items:
            group.create_task(one(item))


async def language(stage, name: str, wanted: str) -> None:
    person = stage.sandbox.user(name)
    await stage.app.client.services.preferences.set_user(person.id, {"language": wanted})


async def drawn(stage, prompt: str, name: str = "alice", **options) -> None:
    """Ask for a prompt; its job is delivered with its words unchanged."""
    message = await stage.outcome(await stage.imagine(name, prompt, **SMALL, **options))
    job = await stage.job_of(message)
    assert job.request.prompt == ImageRequest(prompt).prompt
    assert [file.filename for file in message.files] == [f"{job.id}_0.png"]
    assert (await stage.delivered(job.id)).state == "delivered"


async def refused(stage, prompt: str) -> None:
    try:
        invocation = await stage.imagine("alice", prompt, **SMALL)
    except Refusal:
        return  # Discord's own client would not send it.
    answer = await invocation.answer()
    assert answer.ephemeral
    assert answer.content


async def test_a_slice_of_the_corpus(sandbox, tmp_path):
    async with staged(sandbox, tmp_path, **LIMITS) as stage:
        await language(stage, "alice", "zh_CN")
        prompts = DRAWN[::40]
        await many(prompts, lambda prompt: drawn(stage, prompt))
        await many(REFUSED[::4], lambda prompt: refused(stage, prompt))
        assert await stage.jobs_made() == len(prompts)
        judge(stage)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("spoken", ["en", pytest.param("zh_CN", marks=pytest.mark.thorough)])
async def test_the_whole_corpus_by_every_way(sandbox, tmp_path, spoken):
    limits = {"limit_open_jobs": 100, "limit_images_per_day": 1000, "limit_queue_size": 1000}
    limits |= {"limit_server_queue_size": 0, "limit_gpu_seconds_per_day": 0}
    async with staged(sandbox, tmp_path, **limits) as stage:
        for name in ("alice", "bob"):
            await language(stage, name, spoken)
        await many(DRAWN, lambda prompt: drawn(stage, prompt))
        await many(REFUSED, lambda prompt: refused(stage, prompt))
        assert await stage.jobs_made() == len(DRAWN)
        await by_direct_message(stage)
        await by_forms(stage)
        await in_lists(stage)
        await in_rules_and_styles(stage)
        open_jobs = "SELECT count(*) FROM jobs WHERE state <> 'generated'"
        assert await stage.database.read(lambda tx: tx.value(open_jobs)) == 0
        undelivered = "SELECT count(*) FROM deliveries WHERE state <> 'delivered'"
        assert await stage.database.read(lambda tx: tx.value(undelivered)) == 0
        judge(stage)


async def by_direct_message(stage) -> None:
    chen, before = stage.sandbox.user("chen"), await stage.jobs_made()
    prompts = [prompt for prompt in DRAWN[::3] if len(prompt) <= 2000]
    for number, prompt in enumerate(prompts, 1):
        await chen.send("dm", prompt)
        if number % 50 == 0 or number == len(prompts):
            await stage.sandbox.wait(lambda: len(stage.visible("chen", "dm")) >= number, 60)  # noqa: B023
    assert await stage.jobs_made() == before + len(prompts)
    for message in stage.visible("chen", "dm"):
        await stage.delivered(job_id_of(message))


async def by_forms(stage) -> None:
    """Write into the empty form, and change the words of a finished picture."""
    bob = stage.sandbox.user("bob")
    first = await stage.outcome(await stage.imagine("bob", "first", **SMALL))

    async def write(prompt: str) -> None:
        opened = await bob.slash("general", "compose", **SMALL)
        await opened.response()
        sent = await bob.submit_modal(opened, {"prompt": prompt})
        await stage.delivered(job_id_of(await stage.outcome(sent)))

    async def edit(prompt: str) -> None:
        opened = await bob.press(first, f"edit:{job_id_of(first)}")
        await opened.response()
        sent = await bob.submit_modal(opened, {"prompt": prompt, "negative": ""})
        message = await stage.outcome(sent)
        job = await stage.job_of(message)
        assert job.request.prompt == ImageRequest(prompt).prompt
        await stage.delivered(job.id)
        shown = await (await bob.press(message, f"details:{job.id}")).answer()
        assert shown.content

    await many(DRAWN[1::8], write)
    await many(DRAWN[2::8], edit)


async def in_lists(stage) -> None:
    """Search the history, complete and show; ask for the lists of what waits."""
    alice = stage.sandbox.user("alice")

    async def look(prompt: str) -> None:
        words = prompt[:60]
        if words.strip():
            try:
                found = await alice.slash("general", "history", text=words)
            except Refusal:
                return
            assert (await found.answer(30)).content
        choices = await alice.autocomplete("general", "show", "job", job=prompt[:40])
        assert len(choices) <= 25
        if prompt[:40].strip():
            assert (await (await alice.slash("general", "show", job=prompt[:40])).answer()).content

    await many(DRAWN[3::8], look)


async def in_rules_and_styles(stage) -> None:
    """Store hostile names and words as a server's own; every list and every answer stays whole."""
    alice = stage.sandbox.user("alice")
    for prompt in DRAWN[4::40]:
        name, words = prompt[:30], prompt[:200]
        if not (name.strip() and words.strip()):
            continue
        for command, options in (
            ("admin style add", {"name": name, "prompt": words}),
            ("admin style list", {}),
            ("admin style remove", {"name": name}),
            ("admin rule add", {"rule": words}),
            ("admin rule list", {}),
            ("admin rule remove", {"rule": words}),
            ("admin pause", {"reason": words}),
            ("admin queue", {}),
            ("admin resume", {}),
        ):
            answer = await (await alice.slash("general", command, **options)).answer()
            assert answer.content, command


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_any_text_at_all(sandbox, tmp_path):
    """What hypothesis makes up goes in by the wire, and comes out drawn or refused."""
    texts: list[str] = []

    @settings(max_examples=150, database=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(TEXTS, st.text(min_size=1, max_size=200)))
    def collect(text: str) -> None:
        texts.append(text[:4000])

    await asyncio.to_thread(collect)
    limits = {"limit_open_jobs": 100, "limit_images_per_day": 1000}
    async with staged(sandbox, tmp_path, **limits) as stage:

        async def ask(text: str) -> None:
            try:
                ImageRequest(text)
            except InvalidRequest:
                await refused(stage, text)
            else:
                await drawn(stage, text)

        await many(texts, ask)
        judge(stage)
