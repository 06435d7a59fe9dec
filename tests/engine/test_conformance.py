"""What every `Engine` does, in the words of bot/engine/protocol.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

import pytest
import pytest_asyncio

from bot.engine.protocol import (
    Engine,
    EngineRequest,
    EngineState,
    Event,
    Finished,
    Loaded,
    Loading,
    Picture,
    Step,
)
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled
from tests.engine.conformance import Act, Implementation, every
from tests.engine.promises import check, draw, draw_well, leave, loads, react

# A module's engines share its loop: most tests leave the engine to the next one, as jobs do.
pytestmark = pytest.mark.asyncio(loop_scope="module")
Kind = EngineErrorKind
TEXTS = ({"parameters": "an owl\nSteps: 4"}, {"request": '{"prompt": "猫頭鷹"}'})
CHILD = frozenset({"child"})


@pytest.fixture(scope="module")
def implementation(request: pytest.FixtureRequest) -> Implementation:
    return request.param


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(implementation, tmp_path_factory) -> AsyncIterator[Engine]:
    """An engine that was used by other tests."""
    async with implementation.opened(tmp_path_factory.mktemp("shared")) as engine:
        yield engine


@pytest_asyncio.fixture(loop_scope="module")
async def engine(shared: Engine) -> Engine:
    """An engine whose model is loaded, whatever was done to it before."""
    async with asyncio.timeout(60):
        await shared.load()
    assert shared.state is EngineState.IDLE
    return shared


@every(Act.DRAW)
async def test_the_first_job_loads_and_the_second_does_not(implementation, engine, tmp_path):
    assert engine.name
    assert await engine.unload()
    assert engine.state is EngineState.STOPPED
    wanted = implementation.request(engine, Act.DRAW, tmp_path, seeds=(3, 260), texts=TEXTS)
    events, states = [], {}
    async with asyncio.timeout(60):
        async for event in engine.generate(wanted):
            events.append(event)
            states.setdefault(type(event), set()).add(engine.state)
    check(events, wanted)
    assert [type(event) for event in events].count(Loaded) == 1
    assert states[Loading] <= {EngineState.STARTING, EngineState.LOADING}
    assert states[Step] == states[Picture] == {EngineState.BUSY}
    assert engine.state is EngineState.IDLE
    assert not loads(await draw_well(implementation, engine, tmp_path / "2", job="job2"))


@every(Act.DRAW, often=True)
async def test_load_is_done_once(implementation, engine, tmp_path):
    await engine.unload()
    async with asyncio.timeout(60):
        await engine.load()
        assert engine.state is EngineState.IDLE
        await engine.load()
    assert not loads(await draw_well(implementation, engine, tmp_path))


@every(Act.DRAW, Act.HOLD_FIRST)
async def test_a_cancel_before_the_first_step(implementation, engine, tmp_path):
    wanted = implementation.request(engine, Act.HOLD_FIRST, tmp_path)
    drawing = asyncio.create_task(draw(engine, wanted))
    async with asyncio.timeout(60):
        while engine.state is not EngineState.BUSY:  # noqa: ASYNC110 - a state has no event
            await asyncio.sleep(0)
        await engine.cancel("job1")
        with pytest.raises(GenerationCancelled):
            await drawing
    assert engine.state is EngineState.IDLE
    assert not loads(await draw_well(implementation, engine, tmp_path / "2", job="job2"))


@every(Act.DRAW, Act.HOLD)
async def test_a_cancel_acts_within_a_step(implementation, engine, tmp_path):
    async def on_event(event: Event) -> None:
        if event == Step(2, wanted.steps):
            await engine.cancel("job1")
            await engine.cancel("job1")

    wanted = implementation.request(engine, Act.HOLD, tmp_path, steps=10)
    events = await react(engine, wanted, on_event)
    steps = [event for event in events if isinstance(event, Step)]
    assert 2 <= len(steps) <= 2 + implementation.slack < wanted.steps
    assert not any(isinstance(event, Picture | Finished) for event in events)
    assert engine.state is EngineState.IDLE
    assert not loads(await draw_well(implementation, engine, tmp_path / "2"))


@every(Act.DRAW, often=True)
@pytest.mark.parametrize("at", [Loading, Loaded])
async def test_a_cancel_while_the_model_loads(implementation, engine, tmp_path, at):
    async def on_event(event: Event) -> None:
        if isinstance(event, at):
            await engine.cancel("job1")

    await engine.unload()
    wanted = implementation.request(engine, Act.DRAW, tmp_path)
    events = await react(engine, wanted, on_event)
    assert isinstance(events[-1], Loading | Loaded)
    assert list(tmp_path.iterdir()) == []
    await draw_well(implementation, engine, tmp_path)


@every(Act.DRAW, often=True)
async def test_a_cancel_of_another_job_is_nothing_to_this_one(implementation, engine, tmp_path):
    await engine.unload()
    wanted = implementation.request(engine, Act.DRAW, tmp_path)
    events = []
    async with asyncio.timeout(60):
        async for event in engine.generate(wanted):
            events.append(event)
            await engine.cancel("another")
    check(events, wanted)
    await draw_well(implementation, engine, tmp_path / "2", job="another")


@every(Act.DRAW, Act.OOM)
async def test_a_cancel_out_of_time_spares_the_next_attempt(implementation, engine, tmp_path):
    await engine.cancel("job1")
    await draw_well(implementation, engine, tmp_path)
    await engine.cancel("job1")
    await draw_well(implementation, engine, tmp_path)
    with pytest.raises(EngineError):
        await draw(engine, implementation.request(engine, Act.OOM, tmp_path))
    await engine.cancel("job1")
    await draw_well(implementation, engine, tmp_path)


@every(Act.DRAW, Act.HOLD)
async def test_leaving_early_ends_the_work(implementation, engine, tmp_path):
    await leave(engine, implementation.request(engine, Act.HOLD, tmp_path), Step, 2)
    assert engine.state in {EngineState.IDLE, EngineState.STOPPED}
    await draw_well(implementation, engine, tmp_path / "2")


@pytest.mark.slow
@every(Act.DRAW, often=True)
@pytest.mark.parametrize("at", [Loading, Loaded, Picture, Finished])
async def test_leaving_at_any_event_leaves_a_usable_engine(implementation, engine, tmp_path, at):
    await engine.unload()
    wanted = implementation.request(
        engine, Act.DRAW, tmp_path, seeds=(1, 2), texts=({"a": "b"}, {"c": "d"})
    )
    await leave(engine, wanted, at)
    await draw_well(implementation, engine, tmp_path / "2")


@every(Act.DRAW, Act.HOLD)
async def test_a_consumer_that_is_cancelled_ends_the_work(implementation, engine, tmp_path):
    begun = asyncio.Event()

    async def consume() -> None:
        events = cast("AsyncGenerator[Event]", engine.generate(wanted))
        async with aclosing(events):
            async for event in events:
                if event == Step(2, wanted.steps):
                    begun.set()

    wanted = implementation.request(engine, Act.HOLD, tmp_path)
    task = asyncio.create_task(consume())
    async with asyncio.timeout(60):
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await draw_well(implementation, engine, tmp_path / "2")


@every(Act.DRAW, Act.OOM, Act.RAISE)
@pytest.mark.parametrize(("act", "kind"), [(Act.OOM, Kind.OUT_OF_MEMORY), (Act.RAISE, Kind.RAISED)])
async def test_a_fault_that_the_model_survives(implementation, engine, tmp_path, act, kind):
    with pytest.raises(EngineError) as caught:
        await draw(engine, implementation.request(engine, act, tmp_path))
    assert (caught.value.kind, caught.value.loading) == (kind, False)
    assert engine.state is EngineState.IDLE
    assert not loads(await draw_well(implementation, engine, tmp_path))


@every(Act.DRAW, Act.REFUSE)
async def test_a_refusal_says_why(implementation, engine, tmp_path):
    with pytest.raises(EngineError) as caught:
        await draw(engine, implementation.request(engine, Act.REFUSE, tmp_path))
    error = caught.value
    assert (error.kind, error.loading) == (Kind.REFUSED, False)
    assert (error.template, error.values) == ("There is no LoRA {name}.", {"name": "owl"})
    assert error.sentence == "There is no LoRA owl."
    assert not loads(await draw_well(implementation, engine, tmp_path))


async def breaks(implementation, engine: Engine, folder, act: Act, kind: Kind) -> None:
    """The job breaks the engine, and the next one has a new one."""
    with pytest.raises(EngineError) as caught:
        await draw(engine, implementation.request(engine, act, folder))
    assert (caught.value.kind, caught.value.loading) == (kind, False)
    assert engine.state is EngineState.STOPPED
    assert loads(await draw_well(implementation, engine, folder / "2"))


@every(Act.DRAW, Act.DIE)
async def test_a_death_under_a_job(implementation, engine, tmp_path):
    await breaks(implementation, engine, tmp_path, Act.DIE, Kind.DIED)


@every(Act.DRAW, Act.WRONG_JOB)
async def test_an_answer_for_another_job(implementation, engine, tmp_path):
    await breaks(implementation, engine, tmp_path, Act.WRONG_JOB, Kind.GARBLED)


@every(Act.DRAW, Act.GARBAGE, Act.UNASKED, Act.MISSING, slow=CHILD)
@pytest.mark.parametrize("act", [Act.GARBAGE, Act.UNASKED, Act.MISSING])
async def test_answers_that_are_none(implementation, engine, tmp_path, act):
    await breaks(implementation, engine, tmp_path, act, Kind.GARBLED)


@every(Act.DRAW, Act.HANG)
async def test_a_silence_past_the_limit(implementation, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    async with implementation.opened(own, silence=2.0) as engine:
        await breaks(implementation, engine, tmp_path, Act.HANG, Kind.SILENT)


@every(Act.NOISE, slow=CHILD)
async def test_a_large_picture(implementation, engine, tmp_path):
    wanted = implementation.request(engine, Act.NOISE, tmp_path, width=2048, height=2048, steps=2)
    check(await draw(engine, wanted), wanted)


@every(Act.OOM)  # whoever can be made to fail can be made to fail to load
async def test_a_failed_load_is_tried_again_by_the_next_job(implementation, tmp_path):
    own, pictures = tmp_path / "own", tmp_path / "pictures"
    own.mkdir()
    pictures.mkdir()
    async with implementation.unloadable(own) as (engine, repair):
        with pytest.raises(EngineError) as loading:
            await engine.load()
        with pytest.raises(EngineError) as drawing:
            await draw(engine, implementation.request(engine, Act.DRAW, pictures))
        for error in (loading.value, drawing.value):
            assert error.kind is Kind.LOAD_FAILED
            assert error.sentence == "The file weights is missing."
        assert drawing.value.loading
        assert engine.state is EngineState.STOPPED
        repair()
        assert loads(await draw_well(implementation, engine, pictures))


@every(Act.DRAW)
async def test_unload_frees_an_idle_engine(implementation, engine, tmp_path):
    for _ in range(2):
        assert await engine.unload()
        assert engine.state is EngineState.STOPPED
    assert loads(await draw_well(implementation, engine, tmp_path))


@every(Act.DRAW, often=True)
async def test_unload_leaves_an_engine_that_works_alone(implementation, engine, tmp_path):
    await engine.unload()
    wanted = implementation.request(engine, Act.DRAW, tmp_path)
    events = []
    async with asyncio.timeout(60):
        async for event in engine.generate(wanted):
            events.append(event)
            assert not await engine.unload()
    check(events, wanted)
    assert not loads(await draw_well(implementation, engine, tmp_path / "2"))


@every(Act.DRAW)
async def test_one_job_at_a_time(implementation, engine, tmp_path):
    order, drawing = [], []

    async def consume(wanted: EngineRequest) -> None:
        events = []
        async for event in engine.generate(wanted):
            order.append(wanted.job_id)
            events.append(event)
        check(events, wanted)

    for job in ("a", "b"):
        folder = tmp_path / job
        folder.mkdir()
        wanted = implementation.request(engine, Act.DRAW, folder, job=job)
        drawing.append(asyncio.create_task(consume(wanted)))
    async with asyncio.timeout(60):
        await asyncio.gather(*drawing)
    assert order == sorted(order)


@every(Act.DRAW, often=True)
async def test_a_closed_engine_stays_closed(implementation, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    async with asyncio.timeout(60), implementation.opened(own) as engine:
        await engine.load()
        await engine.close()
        await engine.close()
        assert engine.state is EngineState.STOPPED
        with pytest.raises(EngineError) as drawing:
            await draw(engine, implementation.request(engine, Act.DRAW, tmp_path))
        with pytest.raises(EngineError) as loading:
            await engine.load()
        assert (drawing.value.kind, loading.value.kind) == (Kind.DIED, Kind.DIED)
        assert drawing.value.loading
        await engine.cancel("job1")
        await engine.unload()
        assert engine.state is EngineState.STOPPED


@every(Act.HOLD, often=True)
@pytest.mark.parametrize("at", [Loading, Step])
async def test_close_ends_the_job_in_hand(implementation, tmp_path, at):
    own, pictures = tmp_path / "own", tmp_path / "pictures"
    own.mkdir()
    pictures.mkdir()
    async with asyncio.timeout(60), implementation.opened(own) as engine:
        wanted = implementation.request(engine, Act.HOLD, pictures)
        with pytest.raises(EngineError) as caught:
            async for event in engine.generate(wanted):
                if isinstance(event, at):
                    await engine.close()
        assert caught.value.kind is Kind.DIED
        assert engine.state is EngineState.STOPPED
        assert list(pictures.iterdir()) == []
