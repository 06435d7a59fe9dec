"""Which model writes for a job, and what it costs to bring it there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bot.domain.job import JobState
from bot.domain.writing import EXPECTED_TOKENS, Writing
from bot.engine.protocol import Finished, Loading, Switched, Written
from bot.errors import EngineError, EngineErrorKind
from bot.jobs.queue import JobQueue
from bot.jobs.rewriting import Reason
from tests.engines import Script, ScriptedEngine
from tests.jobs.kit import PLENTY, make_origin, make_request, one
from tests.jobs.test_worker import final
from tests.jobs.writing_kit import MODEL, about_a_picture, ask, at_work_on, broken, enhanced

MUTE, WRITER = "stabilityai/stable-diffusion-xl-base-1.0", "Qwen/Qwen-Image"
NEWER, OTHER = "Qwen/Qwen-Image-2.1", "Qwen/Qwen-Image-Edit-2511"
SWITCH_S = 10.0


@pytest.fixture
def at_work(store, clock):
    return lambda engine, queue: at_work_on(queue, store, clock, engine)


@pytest.fixture
async def offering(database, clock):
    """Return a queue that offers several models, the first one for who names none."""

    async def offering(*models: str) -> JobQueue:
        queue = JobQueue(database, PLENTY, model=models[0], models=models, clock=clock)
        await queue.start()
        return queue

    return offering


def switching(held: str) -> ScriptedEngine:
    engine = ScriptedEngine()
    engine.held, engine.switch_s = held, SWITCH_S
    return engine


@pytest.mark.parametrize(
    ("offered", "model"),
    [((NEWER,), NEWER), ((NEWER, MODEL, OTHER), NEWER), ((MODEL, OTHER), OTHER)],
)
async def test_who_rewrites_for_pictures_sees_them(offering, store, at_work, offered, model):
    """And was taught to, which the toy model was not."""
    queue, engine = await offering(*offered), ScriptedEngine()
    request = make_request("Make it red.", enhance=True, references=("reference1",))
    job = await about_a_picture(queue, store, request)
    async with at_work(engine, queue):
        assert await final(queue, job) == [JobState.GENERATED]
    (asked,) = engine.asked
    assert (asked.model, engine.seen_by_writer[job.id]) == (model, [b"the picture"])
    assert "You see the pictures" in asked.system
    assert [(one.model, len(one.references)) for one in engine.requests] == [(offered[0], 1)]


async def test_a_writer_that_does_not_load_leaves_the_picture_as_it_was_typed(
    offering, database, at_work
):
    """The engine has lost its own model by the switch that failed, and loads it again."""
    queue, engine = await offering(MUTE, WRITER), switching(MUTE)
    engine.writing.append(broken(EngineErrorKind.SWITCH_FAILED))
    first = (await queue.submit(make_request(), make_origin())).job
    job = await enhanced(queue)
    async with at_work(engine, queue) as worker:
        assert await final(queue, first, job) == [JobState.GENERATED] * 2
        assert (worker.crashes, worker.pausing, worker.session.model) == (0, False, MUTE)
    row = await queue.job(job.id)
    assert (row.request.unrewritten, row.engine_faults) == (Reason.UNAVAILABLE, 0)
    assert (engine.asked[0].model, engine.held) == (WRITER, MUTE)
    assert [(asked.prompt, asked.model) for asked in engine.requests][1:] == [("a cat", MUTE)]
    assert row.timings["load"] == SWITCH_S  # nobody's
    assert await one(database, "SELECT gpu_seconds FROM usage WHERE job_id = ?", job.id) == 3.0


async def test_a_switch_to_the_writer_is_charged_once_and_is_no_writing(
    offering, database, at_work
):
    queue, engine = await offering(MUTE, WRITER), switching(MUTE)
    engine.scripts.extend([Script(), Script(), Script(hold_at=-1)])
    first = (await queue.submit(make_request(), make_origin())).job
    drawn, given_up = await enhanced(queue), await enhanced(queue)
    async with at_work(engine, queue):
        await engine.holding.wait()
        await queue.cancel(given_up.id, by=1)
        assert await final(queue, first, drawn, given_up) == [
            *(JobState.GENERATED, JobState.GENERATED, JobState.CANCELLED)
        ]
    row = await queue.job(drawn.id)
    assert (row.timings["rewrite"], row.timings["switch"]) == (2.0, SWITCH_S)
    assert await queue.forecast.token_seconds() == 2.0 / EXPECTED_TOKENS[Writing.ENHANCE]
    charged = [
        await one(database, "SELECT gpu_seconds FROM usage WHERE job_id = ?", job.id)
        for job in (drawn, given_up)
    ]
    assert charged == [2 * SWITCH_S + 2.0 + 3.0, SWITCH_S + 2.0]


class TakesItsTime(ScriptedEngine):
    """A switch to its writer takes as long as it says, by a clock, and a token 1 s."""

    def __init__(self, clock) -> None:
        super().__init__()
        self.clock = clock

    async def _write(self, request):
        async for event in super()._write(request):
            self.clock.now += event.seconds if isinstance(event, Switched) else 1.0
            yield event


async def test_a_rewriting_that_fails_after_a_switch_is_charged_with_it_and_timed_without(
    offering, database, clock, at_work
):
    queue, engine = await offering(MUTE, WRITER), TakesItsTime(clock)
    engine.held, engine.switch_s = MUTE, SWITCH_S
    engine.writing.append(
        Script(error=EngineError(EngineErrorKind.RAISED, "the detail"), error_at=1)
    )
    first = (await queue.submit(make_request(), make_origin())).job
    job = await enhanced(queue)
    async with at_work(engine, queue):
        assert await final(queue, first, job) == [JobState.GENERATED] * 2
    # The first piece of it and the news of loading, a second each.
    assert (await queue.job(job.id)).timings["rewrite"] == 2.0
    charged = await one(database, "SELECT gpu_seconds FROM usage WHERE job_id = ?", job.id)
    assert charged == 2 * SWITCH_S + 2.0 + 3.0


class LoadsItsHead(ScriptedEngine):
    """Loads what it writes with under the first text, in 50 s of a clock; a token takes 1 s."""

    def __init__(self, clock) -> None:
        super().__init__()
        self.clock = clock

    async def _write(self, request):
        yield Loading("loading the language head", 0.0)
        self.clock.now += 50.0
        yield Loading("loading the language head", 1.0)
        async for event in super()._write(request):
            self.clock.now += isinstance(event, Written)
            if isinstance(event, Finished):
                yield replace(event, timings=event.timings | {"load": 50.0})
            else:
                yield event


async def test_what_is_loaded_to_write_is_charged_to_nobody(offering, database, clock, at_work):
    queue, engine = await offering(MODEL), LoadsItsHead(clock)
    engine.writing.extend([Script(), Script(), Script(hold_at=0)])
    text, picture, given_up = await ask(queue), await enhanced(queue), await ask(queue)
    async with at_work(engine, queue):
        await engine.holding.wait()
        await queue.cancel(given_up.id, by=1)
        await final(queue, text, picture, given_up)
    assert (await queue.job(text.id)).timings["load"] == 50.0
    assert (await queue.job(picture.id)).timings["load"] == 50.0
    charged = [
        await one(database, "SELECT gpu_seconds FROM usage WHERE job_id = ?", job.id)
        for job in (text, picture, given_up)
    ]
    assert charged == [2.0, 5.0, 1.0]
