"""A fleet of several models: which engine has which, and what a switch costs whom."""

from __future__ import annotations

import json

import pytest

from bot.domain.job import JobState
from bot.engine.protocol import Preview, Step
from bot.errors import EngineError, EngineErrorKind
from bot.messages.status import progress_status
from tests.engines import Script, ScriptedEngine
from tests.jobs.fleets import at_work, drawn_by, ended
from tests.jobs.kit import MODEL, one
from tests.jobs.test_several_models import OTHER, RARE, SWITCH_S, ask


async def test_a_job_goes_to_the_engine_that_has_its_model(queue, fleet):
    """And what three models ask for by turns is no reason to change them by turns."""
    engines = {name: ScriptedEngine() for name in "abc"}
    for name, engine in engines.items():
        await fleet.add(name, engine)
    models = [MODEL, OTHER, RARE]
    async with at_work(fleet):
        for _ in range(4):
            for model in models:
                await ended(queue, await ask(queue, 1, model))
    held = [fleet.slots[name].loaded for name in "abc"]
    assert sorted(held, key=str) == sorted(models, key=str)
    assert [len(drawn_by(engine)) for engine in engines.values()] == [4, 4, 4]


async def test_a_rare_model_changes_one_of_many_engines_at_a_time(queue, fleet):
    engines = [ScriptedEngine(Script(hold_at=1)) for _ in range(3)]
    for number, engine in enumerate(engines):
        await fleet.add(f"e{number}", engine)
    async with at_work(fleet):
        same = [await ask(queue, user) for user in (1, 2, 3)]
        for engine in engines:
            await engine.holding.wait()
            engine.release.set()
        await ended(queue, *same)
        for _ in range(5):
            await ended(queue, await ask(queue, 4, RARE))
            await ended(queue, await ask(queue, 5))
    held = [slot.loaded for slot in fleet.slots.values()]
    assert sorted(held) == sorted([MODEL, MODEL, RARE])
    rare = [engine for engine, model in zip(engines, held, strict=True) if model == RARE]
    assert len(drawn_by(rare[0])) == 1 + 5


async def test_an_engine_that_was_freed_has_no_model(queue, fleet):
    engine = ScriptedEngine()
    slot = await fleet.add("a", engine)
    async with at_work(fleet):
        job = await ask(queue, 1, OTHER)
        await ended(queue, job)
        assert (await queue.job(job.id)).model == OTHER
        assert slot.loaded == OTHER
        assert slot.outlook(alone=True).model == OTHER
        await fleet.unload()
        assert slot.loaded is None
        await ended(queue, await ask(queue, 1))
        assert not slot.worker.session.switched


def not_switched() -> EngineError:
    return EngineError(
        EngineErrorKind.SWITCH_FAILED, "gone", sentence="The model file x is missing."
    )


async def test_what_the_engine_says_that_it_holds_is_believed(queue, fleet, database, monkeypatch):
    """A model that does not load fails its job with the sentence, and no engine breaks down."""
    engine = ScriptedEngine(Script(), Script(error=not_switched()))
    engine.held, engine.switch_s = MODEL, SWITCH_S
    slot = await fleet.add("a", engine)
    told, publish = [], queue.feed.publish
    monkeypatch.setattr(queue.feed, "publish", lambda one: (told.append(one), publish(one)))
    async with at_work(fleet):
        await ended(queue, await ask(queue, 1))
        job = await ask(queue, 1, OTHER)
        assert await ended(queue, job) == [JobState.FAILED]
        update = next(each for each in told if (each.job_id, each.kind) == (job.id, "loading"))
        assert (update.model, update.stage) == (OTHER, "loading the transformer")
        assert progress_status(update).startswith(f"🔁 Switching to {OTHER}")
        row = await queue.job(job.id)
        assert (row.attempts, row.error_kind) == (1, "switch_failed")
        assert "The model file x is missing." in row.error
        assert slot.loaded is None
        assert (slot.worker.crashes, slot.worker.pausing, engine.unloaded.is_set()) == (
            0,
            False,
            False,
        )
        assert await ended(queue, await ask(queue, 1)) == [JobState.GENERATED]
        good = await ask(queue, 1, OTHER)
        assert await ended(queue, good) == [JobState.GENERATED]
        assert slot.loaded == OTHER
        text = await one(database, "SELECT timings FROM jobs WHERE id = ?", good.id)
        assert json.loads(text)["switch"] == SWITCH_S


async def test_another_engine_may_have_the_model_that_one_lacks(queue, fleet):
    lacking, other = ScriptedEngine(Script(error=not_switched())), ScriptedEngine()
    for name, engine in {"a": lacking, "b": other}.items():
        engine.held, engine.switch_s = MODEL, SWITCH_S
        await fleet.add(name, engine)
    async with at_work(fleet):
        assert await ended(queue, job := await ask(queue, 1, OTHER)) == [JobState.GENERATED]
    assert [drawn_by(engine) for engine in (lacking, other)] == [[job.id], [job.id]]


async def test_a_cancel_before_the_switch_leaves_the_engine_its_model(queue, fleet):
    engine = ScriptedEngine(Script(), Script(hold_at=-1))
    engine.held, engine.switch_s = MODEL, SWITCH_S
    slot = await fleet.add("a", engine)
    async with at_work(fleet):
        await ended(queue, await ask(queue, 1))
        job = await ask(queue, 1, OTHER)
        await engine.holding.wait()
        await queue.cancel(job.id, by=1)
        assert await ended(queue, job) == [JobState.CANCELLED]
        assert (engine.held, slot.loaded) == (MODEL, MODEL)
        assert await ended(queue, await ask(queue, 1, OTHER)) == [JobState.GENERATED]
        assert slot.worker.session.switched


async def test_a_switch_after_another_jobs_loading_is_one(queue, fleet, monkeypatch):
    """Where a job was cancelled while its model was loaded, the next one finds that model."""
    engine = ScriptedEngine(loaded=False)
    engine.loads, engine.switch_s = MODEL, SWITCH_S
    slot = await fleet.add("a", engine)
    told, publish = [], queue.feed.publish
    monkeypatch.setattr(queue.feed, "publish", lambda one: (told.append(one), publish(one)))
    async with at_work(fleet):
        assert await ended(queue, await ask(queue, 1, OTHER)) == [JobState.GENERATED]
        assert [one.model for one in told if one.kind == "loading"] == ["", OTHER]
        assert (slot.worker.session.switched, slot.loaded) == (True, OTHER)


@pytest.mark.parametrize(("hold_at", "switch_s"), [(-1, 0.0), (0, SWITCH_S)])
async def test_who_cancels_after_a_switch_is_served_that_long(
    queue, fleet, database, hold_at, switch_s
):
    """Else whoever asks for another model, and gives that up, had the card for nothing."""
    engine = ScriptedEngine(Script(), Script(hold_at=hold_at))
    engine.held, engine.switch_s = MODEL, SWITCH_S
    await fleet.add("a", engine)
    async with at_work(fleet):
        await ended(queue, await ask(queue, 1))
        job = await ask(queue, 2, OTHER)
        await engine.holding.wait()
        await queue.cancel(job.id, by=2)
        await ended(queue, job)
    spent = "SELECT gpu_seconds, refunded FROM usage WHERE job_id = ?"
    row = (await database.read(lambda tx: tx.all(spent, (job.id,))))[0]
    assert tuple(row) == (switch_s, 1.0)


async def test_an_engine_that_was_loaded_by_hand_has_its_own_model(queue, fleet):
    """Whatever it drew before its card was freed."""
    engine = ScriptedEngine()
    engine.name = engine.held = engine.loads = MODEL
    engine.switch_s = SWITCH_S
    slot = await fleet.add("a", engine)
    async with at_work(fleet):
        await ended(queue, await ask(queue, 1, OTHER))
        await fleet.unload()
        await fleet.load()
        assert slot.loaded == MODEL
        await ended(queue, await ask(queue, 1, OTHER))
        assert slot.worker.session.switched
        await fleet.load()  # nothing is to be done
        assert slot.loaded == OTHER


async def test_an_engines_speed_is_that_of_one_model(queue, fleet):
    engine = ScriptedEngine()
    slot = await fleet.add("a", engine)

    def units(job):  # the scripted engine takes three seconds for any picture
        return pytest.approx(job.request.megapixel_steps / 3)

    async with at_work(fleet):
        quick = await ask(queue, 1, steps=40)
        await ended(queue, quick)
        assert slot.speed == units(quick)
        await fleet.unload()  # It loads another model then, which is no switch.
        slow = await ask(queue, 1, OTHER, steps=1)
        await ended(queue, slow)
        assert slot.speed == units(slow)


class SecondPicture(ScriptedEngine):
    """A model that draws a batch picture by picture and is at the second: so it counts steps."""

    async def _attempt(self, request):
        async for event in super()._attempt(request):
            if isinstance(event, Step):
                yield Step(event.index + event.total, 2 * event.total)
            elif isinstance(event, Preview):
                yield Preview(event.step + request.steps, event.data)
            else:
                yield event


async def test_previews_are_counted_as_the_models_steps_are(queue, fleet):
    seen, publish = [], queue.feed.publish
    queue.feed.publish = lambda update: (seen.append(update), publish(update))[1]
    await fleet.add("a", SecondPicture())
    async with at_work(fleet):
        job = await ask(queue, 1, steps=3, count=2)
        assert await ended(queue, job) == [JobState.GENERATED]
    assert {(one.step, one.total) for one in seen if one.kind == "preview"} == {(6, 6)}
    steps = [(one.step, one.total) for one in seen if one.kind == "step"]
    assert steps == [(4, 6), (5, 6), (6, 6)]
