"""Jobs that write: in the one queue, charged, estimated, cancelled, restarted, fenced."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from bot.domain.job import JobState, Target
from bot.domain.writing import EXPECTED_TOKENS, Writing
from bot.engine.protocol import Ending
from bot.errors import EngineErrorKind
from bot.fleet.worker import GpuWorker
from bot.jobs.queue import JobQueue
from bot.jobs.rewriting import Reason
from bot.rules.limits import Limits
from bot.rules.refusals import CooldownRuns, LimitReached
from storage import exports, gallery, people, privacy
from storage.database import Database
from storage.texts import alt_source
from tests.engines import Script, ScriptedEngine
from tests.jobs.kit import PLENTY, delivery_state, make_origin, make_request, one
from tests.jobs.test_worker import final
from tests.jobs.writing_kit import MODEL, about_a_picture, ask, at_work_on, broken, enhanced


@pytest.fixture
async def queue(database: Database, clock) -> JobQueue:
    queue = JobQueue(database, PLENTY, model=MODEL, clock=clock)
    await queue.start()
    return queue


@pytest.fixture
def at_work(queue, store, clock):
    return partial(at_work_on, queue, store, clock)


async def test_a_text_is_written_kept_charged_and_handed_to_the_courier(
    queue, database, store, at_work
):
    engine = ScriptedEngine()
    job = await ask(queue)
    assert await one(database, "SELECT kind FROM jobs") == "text"
    assert await one(database, "SELECT images FROM usage") == 0
    async with at_work(engine, instruction="As a pirate."):
        assert await final(queue, job) == [JobState.GENERATED]
    row = await queue.job(job.id)
    assert row.text == "a cat, in soft light"
    assert row.model == MODEL
    assert row.timings["write"] == 1.0
    assert await one(database, "SELECT gpu_seconds FROM usage") == 2.0
    assert await delivery_state(database, job) == "pending"
    assert await queue.images(job.id) == []
    assert engine.requests == []
    (asked,) = engine.asked
    assert (asked.model, asked.temperature, asked.references) == (MODEL, 0.0, ())
    assert asked.system.startswith("As a pirate.")
    assert not (store.root / ".work").exists() or not list((store.root / ".work").iterdir())


async def test_a_picture_is_described_from_its_file(queue, store, at_work):
    engine = ScriptedEngine()
    request = make_request("What is it?", writes="describe", references=("reference1",))
    job = await about_a_picture(queue, store, request)
    async with at_work(engine):
        assert await final(queue, job) == [JobState.GENERATED]
    assert engine.seen_by_writer[job.id] == [b"the picture"]
    assert (await queue.job(job.id)).text.startswith("CONTENT: a grey square")


async def test_what_is_kept_of_a_description_can_be_stored_and_is_bounded(queue, store, at_work):
    engine = ScriptedEngine()
    engine.answers.append(f"CONTENT: a\x00 cat\ud800{chr(10) * 60_000}ENGLISH: a cat{'x' * 60_000}")
    engine.answers.append("\x00 \n\x07")
    jobs = []
    for _ in range(2):
        request = make_request("What is it?", writes="describe", references=("reference1",))
        jobs.append(await about_a_picture(queue, store, request))
    async with at_work(engine):
        assert await final(queue, *jobs) == [JobState.GENERATED, JobState.FAILED]
    text = (await queue.job(jobs[0].id)).text
    assert text.startswith("CONTENT: a cat\n\nENGLISH: a catxxx")
    assert len(text) == 9000
    assert "The model wrote nothing." in (await queue.job(jobs[1].id)).error


async def test_a_prompt_is_rewritten_and_then_drawn(queue, database, at_work):
    engine = ScriptedEngine()
    job = await enhanced(queue)
    assert await one(database, "SELECT tokens FROM jobs") == EXPECTED_TOKENS[Writing.ENHANCE]
    async with at_work(engine):
        assert await final(queue, job) == [JobState.GENERATED]
    row = await queue.job(job.id)
    assert (row.request.prompt, row.request.rewritten) == ("a cat", "a cat, in soft light")
    assert row.text is None
    (drawn,) = engine.requests
    assert drawn.prompt == "a cat, in soft light"
    assert drawn.texts[0]["parameters"].startswith("a cat, in soft light\n")
    # The rewriting is charged when it is done, and no part of what a picture costs.
    assert row.timings["rewrite"] == 2.0
    assert await one(database, "SELECT gpu_seconds FROM usage") == 5.0
    assert await one(database, "SELECT tokens FROM jobs") == 0.0
    assert await queue.forecast.measured() == pytest.approx(3.0 / job.request.megapixel_steps)
    assert await queue.forecast.token_seconds() == 2.0 / EXPECTED_TOKENS[Writing.ENHANCE]


@pytest.mark.parametrize(
    ("prompt", "answer", "reason"),
    [
        ('a sign "OPEN"', "a sign that is open", Reason.QUOTES),
        ("3 cats", "some cats", Reason.NUMBERS),
        ("a cat", "一只可爱的小猫在阳光下", Reason.LANGUAGE),
        ("a cat", "", Reason.EMPTY),
        ("a cat", "a forbidden cat", Reason.RULES),
    ],
)
async def test_what_is_no_rewrite_is_refused_and_the_users_own_is_drawn(
    queue, database, clock, at_work, prompt, answer, reason
):
    rules = {"rules": ["forbidden"]}
    await database.write(lambda tx: people.put(tx, "guilds", 77, rules, clock.now))
    engine = ScriptedEngine()
    engine.answers.extend([answer, answer])
    job, shown = await enhanced(queue, prompt=prompt), await ask(queue, prompt=prompt)
    async with at_work(engine):
        assert await final(queue, job, shown) == [JobState.GENERATED] * 2
    row = await queue.job(job.id)
    assert (row.request.rewritten, row.request.unrewritten) == ("", reason)
    assert engine.requests[0].prompt == prompt
    # Where it would be shown first there is nothing to show, and why.
    row = await queue.job(shown.id)
    assert (row.text, row.request.unrewritten) == ("", reason)


async def test_an_answer_that_is_no_rewrite_costs_what_it_took(queue, database, at_work):
    """It has written as many tokens as any other: texts are not estimated by it as nothing."""
    engine = ScriptedEngine()
    engine.answers.append("some cats")
    job = await ask(queue, prompt="3 cats")
    async with at_work(engine):
        assert await final(queue, job) == [JobState.GENERATED]
    assert (await queue.job(job.id)).request.unrewritten == Reason.NUMBERS
    assert await one(database, "SELECT tokens FROM jobs") == EXPECTED_TOKENS[Writing.ENHANCE]
    assert await queue.forecast.token_seconds() == 2.0 / EXPECTED_TOKENS[Writing.ENHANCE]


@pytest.mark.parametrize("kind", ["REFUSED", "OUT_OF_MEMORY", "RAISED"])
async def test_an_engine_that_does_not_write_draws_what_was_typed(queue, database, at_work, kind):
    """Or shows why nothing was rewritten, where that is shown before anything is drawn."""
    engine = ScriptedEngine()
    engine.writing.extend([broken(EngineErrorKind[kind])] * 2)
    job, shown = await enhanced(queue), await ask(queue)
    async with at_work(engine):
        assert await final(queue, job, shown) == [JobState.GENERATED] * 2
    row = await queue.job(job.id)
    assert (row.request.unrewritten, row.engine_faults) == (Reason.UNAVAILABLE, 0)
    assert engine.requests[0].prompt == "a cat"
    row = await queue.job(shown.id)
    assert (row.text, row.request.unrewritten) == ("", Reason.UNAVAILABLE)
    assert await one(database, "SELECT gpu_seconds FROM usage WHERE job_id = ?", shown.id) == 0.0


@pytest.mark.parametrize("ending", [Ending.TOKENS, Ending.SECONDS])
async def test_what_was_cut_at_its_end_is_no_prompt_and_no_whole_description(
    queue, store, at_work, ending
):
    engine = ScriptedEngine()
    engine.writing.extend([Script(ending=ending)] * 3)
    job, shown = await enhanced(queue), await ask(queue)
    request = make_request("What is it?", writes="describe", references=("reference1",))
    described = await about_a_picture(queue, store, request)
    async with at_work(engine):
        assert await final(queue, job, shown, described) == [JobState.GENERATED] * 3
    assert (await queue.job(job.id)).request.unrewritten == Reason.LENGTH
    assert (await queue.job(shown.id)).text == ""
    assert (await queue.job(described.id)).text.endswith(" …")


async def test_no_other_model_than_the_one_that_was_chosen_writes(queue, at_work):
    """It may have gone with a new start; whether its user may use another one nobody asks then."""
    engine = ScriptedEngine()
    job, own = (
        await enhanced(queue, written_with="Qwen/Qwen-Image"),
        await enhanced(queue, written_with=MODEL),
    )
    async with at_work(engine):
        assert await final(queue, job, own) == [JobState.GENERATED] * 2
    assert (await queue.job(job.id)).request.unrewritten == Reason.UNAVAILABLE
    assert [asked.job_id for asked in engine.asked] == [own.id]


@pytest.mark.parametrize("make", [enhanced, ask])
async def test_an_engine_that_dies_of_it_is_not_asked_to_write_again(queue, at_work, make):
    engine = ScriptedEngine()
    engine.writing.append(broken(EngineErrorKind.DIED))
    job = await make(queue)
    async with at_work(engine):
        assert await final(queue, job) == [JobState.GENERATED]
    row = await queue.job(job.id)
    assert (row.engine_faults, row.request.unrewritten) == (1, Reason.UNAVAILABLE)
    assert len(engine.asked) == 1


async def test_a_text_that_fails_twice_is_one_sentence_and_costs_nothing(queue, database, at_work):
    engine = ScriptedEngine()
    engine.writing.extend([broken(EngineErrorKind.RAISED)] * 2)
    job = await ask(queue, writes="describe")
    async with at_work(engine):
        assert await final(queue, job) == [JobState.FAILED]
    row = await queue.job(job.id)
    assert row.error == f"The model failed while it wrote this. ({job.id})"
    assert await one(database, "SELECT refunded FROM usage") == 1.0


async def test_a_bot_whose_models_do_not_write_says_so(database, clock, store):
    queue = JobQueue(database, PLENTY, model="tiny", clock=clock)
    await queue.start()
    engine = ScriptedEngine()
    worker = GpuWorker(queue, engine, store, timer=clock, retry_s=0.001)
    running = asyncio.create_task(worker.run())
    text, picture = await ask(queue, writes="describe"), await enhanced(queue)
    async with asyncio.timeout(20):
        assert await final(queue, text, picture) == [JobState.FAILED, JobState.GENERATED]
    assert "None of this bot's models writes texts." in (await queue.job(text.id)).error
    assert (await queue.job(picture.id)).request.unrewritten == Reason.UNAVAILABLE
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("make", [ask, enhanced])
async def test_a_cancel_ends_the_writing(queue, at_work, make):
    engine = ScriptedEngine()
    engine.writing.append(Script(hold_at=0))
    job = await make(queue)
    async with at_work(engine):
        await engine.holding.wait()
        await queue.cancel(job.id, by=1)
        assert await final(queue, job) == [JobState.CANCELLED]
    assert engine.requests == []
    assert (await queue.job(job.id)).text is None


async def test_what_was_rewritten_is_not_written_again_after_a_restart(
    queue, database, clock, at_work
):
    engine = ScriptedEngine(Script(hold_at=1))
    job, waiting = await enhanced(queue), await ask(queue)
    async with at_work(engine):
        await engine.holding.wait()
    # It goes back with its rewritten prompt, and a killed process would leave the same row.
    row = await queue.job(job.id)
    assert (row.state, row.request.rewritten) == (JobState.QUEUED, "a cat, in soft light")
    again = JobQueue(database, PLENTY, model=MODEL, clock=clock)
    await again.start()
    engine = ScriptedEngine()
    async with at_work(engine):
        assert await final(queue, job, waiting) == [JobState.GENERATED] * 2
    assert [request.job_id for request in engine.asked] == [waiting.id]
    assert engine.requests[0].prompt == "a cat, in soft light"


async def test_a_job_that_was_writing_when_the_process_died_waits_again(database, clock, queue):
    job = await ask(queue)
    await queue.get()
    again = JobQueue(database, PLENTY, model=MODEL, clock=clock)
    assert (await again.start()).requeued == 1
    row = await again.job(job.id)
    assert (row.state, row.interruptions, row.text) == (JobState.QUEUED, 1, None)


async def test_a_late_text_changes_nothing(queue):
    job = await ask(queue)
    first = await queue.get()
    await queue.commits.give_back(first)
    second = await queue.get()
    record = queue.commits.record_generated
    assert not await record(first, [], {"write": 1.0}, None, MODEL, text="late")
    assert not await queue.commits.record_rewritten(first, first.request, 1.0)
    assert await record(second, [], {"write": 1.0}, None, MODEL, text="mine")
    assert not await record(second, [], {"write": 1.0}, None, MODEL, text="twice")
    assert (await queue.job(job.id)).text == "mine"


async def test_what_was_written_is_handed_out_and_goes_with_what_it_is_about(
    queue, database, clock
):
    """The text itself, and the alternative text of a picture that is deleted."""
    picture = (await queue.submit(make_request(), make_origin(1))).job
    await queue.commits.record_generated(await queue.get(), [], {"denoise": 1.0}, None, MODEL)
    text = await ask(queue)
    await queue.commits.record_generated(
        await queue.get(), [], {"write": 1.0}, None, MODEL, text="mine"
    )
    alt = make_origin(1, source_id=alt_source(picture.id), target=Target.CLI)
    await queue.submit(make_request(writes="alt"), alt)
    await queue.commits.record_generated(
        await queue.get(), [], {"write": 1.0}, None, MODEL, text="a grey square"
    )
    rows, _ = await database.read(lambda tx: exports.read_page(tx, 1, exports.first_page(None)))
    assert sorted(row["text"] for row in rows["texts"]) == ["a grey square", "mine"]
    assert await queue.alt_text(picture.id) == "a grey square"
    await database.write(lambda tx: gallery.mark_deleted(tx, picture.id, clock.now))
    assert await queue.alt_text(picture.id) is None
    await database.write(lambda tx: privacy.forget_jobs(tx, [text.id]))
    assert await one(database, "SELECT count(*) FROM texts") == 0


async def test_a_text_that_nobody_waits_for_takes_nobodys_place(database, clock):
    queue = JobQueue(database, Limits(open_jobs=1), model=MODEL, clock=clock)
    await queue.start()
    alt = make_origin(1, source_id=alt_source("x"), target=Target.CLI)
    await queue.submit(make_request(writes="alt"), alt)
    await ask(queue)
    with pytest.raises(LimitReached):
        await ask(queue)


async def test_a_text_that_nobody_waits_for_has_no_cooldown_and_begins_none(database, clock):
    """It is asked for when its picture is sent, soon after that or long after."""
    queue = JobQueue(database, Limits(cooldown_s=60), model=MODEL, clock=clock)
    await queue.start()
    picture, asked_at = await ask(queue), clock.now
    clock.now += 10
    alt = make_origin(1, source_id=alt_source(picture.id), target=Target.CLI)
    await queue.submit(make_request(writes="alt"), alt)
    with pytest.raises(CooldownRuns) as refused:
        await ask(queue)
    assert refused.value.retry_at == asked_at + 60
    clock.now = asked_at + 60
    assert (await queue.limits_used(make_origin(1))).ready_at is None
    await ask(queue)


async def test_limits_hold_and_pictures_are_not_counted(database, clock):
    queue = JobQueue(
        database, Limits(images_per_day=1, gpu_seconds_per_day=10), model=MODEL, clock=clock
    )
    await queue.start()
    await queue.submit(make_request(), make_origin(1))
    first = await ask(queue)
    with pytest.raises(LimitReached):
        await queue.submit(make_request(), make_origin(1))
    await queue.get()
    text = await queue.get()
    assert text.id == first.id
    await queue.commits.record_generated(text, [], {"write": 8.0}, None, MODEL, text="x")
    # What an answer takes is known now.
    await ask(queue, 2)
    with pytest.raises(LimitReached):
        await ask(queue, 2)


async def test_estimates_know_what_a_text_takes(queue, clock):
    picture = make_request().megapixel_steps
    await queue.submit(make_request(), make_origin(5))
    await queue.commits.record_generated(
        await queue.get(), [], {"denoise": 4 * picture}, None, MODEL
    )
    await ask(queue, 5)
    text = await queue.get()
    await queue.commits.record_generated(text, [], {"write": 6.0}, None, MODEL, text="x")
    running = await ask(queue, 1)
    await queue.get()
    waiting = await ask(queue, 2)
    both = await enhanced(queue, 3)
    standing = await queue.standing.now()
    places = [standing.places[job.id] for job in (running, waiting, both)]
    begin = clock.now
    assert [place.ends_at - begin for place in places] == pytest.approx(
        [6.0, 12.0, 18.0 + 4 * picture]
    )


async def test_a_text_between_pictures_hurts_nobodys_order(queue, clock):
    """Texts are served as what they cost: who asks for many gets no more of the card."""
    for seconds, writes in ((12.0, ""), (6.0, "enhance")):
        await queue.submit(make_request(writes=writes), make_origin(9))
        job = await queue.get()
        text = "x" if writes else None
        await queue.commits.record_generated(job, [], {"write": seconds}, None, MODEL, text=text)
    for _ in range(8):
        await ask(queue, 1)
    for _ in range(4):
        await queue.submit(make_request(), make_origin(2))
    turns = []
    while await queue.open_jobs():
        predicted = [job.id for job in await queue.open_jobs()]
        job = await queue.get()
        assert job.id == predicted[0]
        turns.append(job.user_id)
        text = "x" if job.request.writes else None
        seconds = 6.0 if text else 12.0
        clock.now += seconds
        await queue.commits.record_generated(job, [], {"write": seconds}, None, MODEL, text=text)
    # Two texts for each picture.
    assert [turns[:n].count(1) for n in (3, 6, 9, 12)] == [2, 4, 6, 8]
