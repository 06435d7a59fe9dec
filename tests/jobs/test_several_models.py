"""A queue of several models: claims, estimates and charges know what an engine has loaded."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.job import JobState
from bot.engine.protocol import Preview, Step
from bot.errors import EngineError, EngineErrorKind, LimitReached
from bot.jobs.outlook import EngineOutlook
from bot.jobs.queue import JobQueue
from bot.jobs.schedule import drawn_seconds, gpu_seconds, model_cost
from bot.jobs.turns import Leeway
from bot.messages.status import progress_status
from bot.rules.limits import Limits
from storage import jobs
from tests.engines import Script, ScriptedEngine
from tests.jobs.fleets import at_work, drawn_by, ended
from tests.jobs.kit import MODEL, PLENTY, Clock, make_origin, make_request, one, open_queue, refused

OTHER, RARE = "Qwen/Qwen-Image", "stabilityai/stable-diffusion-xl-base-1.0"
SWITCH_S = 10.0


class Card:
    """One engine, which has a model loaded and takes ten seconds to change it."""

    def __init__(self, queue: JobQueue, clock: Clock, rate: float = 1.0) -> None:
        self.queue, self.clock, self.rate = queue, clock, rate
        self.model = MODEL
        self.job: str | None = None
        self.switched = False
        queue.forecast.engines = lambda: [
            EngineOutlook(self.job, model=self.model, switched=self.switched)
        ]

    async def begin(self):
        job = await self.queue.get()
        model = job.model or MODEL
        self.job, self.switched, self.model = job.id, model != self.model, model
        return job

    async def end(self, job):
        seconds = job.request.megapixel_steps * self.rate
        timings = {"denoise": seconds, "total": seconds}
        if self.switched:
            timings |= {"switch": SWITCH_S, "total": seconds + SWITCH_S}
        self.clock.now += timings["total"]
        self.job, self.switched = None, False
        await self.queue.commits.record_generated(job, [], timings, None, self.model)

    async def draw(self):
        job = await self.begin()
        await self.end(job)
        return job


async def ask(queue, user_id, model=None, **changes):
    return (await queue.submit(make_request(**changes), make_origin(user_id), model=model)).job


async def measure(queue, card):
    """Have each model drawn once, the configured one last."""
    for model in (OTHER, RARE, MODEL):
        await ask(queue, 99, model)
        await card.draw()


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


async def test_a_job_of_the_loaded_model_passes_another_until_a_restart_and_after(
    queue, database, clock
):
    card = Card(queue, clock)
    first = await ask(queue, 1, OTHER)
    same = await ask(queue, 2)
    cost = make_request().megapixel_steps
    queue.forecast.leeway = Leeway(passed_s=2 * cost, near_s=9.0)
    assert [job.id for job in await queue.open_jobs()] == [same.id, first.id]
    assert (await card.draw()).id == same.id
    assert await one(database, "SELECT passed_s FROM jobs WHERE id = ?", first.id) == cost
    again = JobQueue(database, PLENTY, model=MODEL, clock=clock)
    await again.start()
    again.forecast.leeway = queue.forecast.leeway
    card = Card(again, clock)
    more = [await ask(again, user) for user in (3, 4)]
    assert [(await card.draw()).id for _ in range(3)] == [more[0].id, first.id, more[1].id]


async def test_a_job_without_a_model_has_the_configured_one(queue, database):
    job = await ask(queue, 1)
    other = await ask(queue, 2, OTHER)
    assert (await queue.job(job.id)).model is None
    found = await database.read(lambda tx: jobs.unfinished(tx, "whatever"))
    assert [(entry.id, entry.model) for entry in found] == [(job.id, "whatever"), (other.id, OTHER)]


async def test_a_job_of_a_model_that_is_gone_is_told_and_its_limits_come_back(
    queue, database, clock
):
    here, gone = await ask(queue, 1), await ask(queue, 2, OTHER, count=3)
    await ask(queue, 3, OTHER)
    await queue.control.pause("a new model", by=9)
    again = JobQueue(database, PLENTY, model=MODEL, models=[MODEL, RARE], clock=clock)
    await again.start()
    # While nothing begins nothing is lost: the setting may be a slip.
    assert await again.claims.claim() is None
    assert len(await again.open_jobs()) == 3
    await again.control.resume(by=9)
    assert (await again.get()).id == here.id
    assert await again.claims.claim() is None
    ended = await again.job(gone.id)
    assert (ended.state, ended.error_kind) == (JobState.CANCELLED, "model_gone")
    assert ended.error == f"the model {OTHER} is no longer offered."
    used = await again.limits_used(make_origin(2))
    assert [charge.images for _quota, charge in used.quotas] == [0]
    assert not [job for job in await again.open_jobs() if job.id != here.id]


async def test_a_mixed_queue_is_long_sooner(queue, database):
    """That is, worked out beside the loop: each turn looks at what may pass."""
    await ask(queue, 1)
    await ask(queue, 2)
    assert (await database.read(queue.forecast.look)).size == 2
    await ask(queue, 3, OTHER)
    assert (await database.read(queue.forecast.look)).size == 30


mixed = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.sampled_from([None, None, None, OTHER, OTHER, RARE]),
        st.integers(1, 6),
        st.integers(1, 4),
        st.sampled_from([0, 0, 0, 1]),
    ),
    min_size=3,
    max_size=14,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(mixed, st.sampled_from([0.5, 3.0, 40.0]), st.booleans())
def test_order_and_times_come_true_with_their_switches(pile, rate, running):
    async def run(folder: Path) -> None:
        clock = Clock()
        async with open_queue(folder, clock=clock) as (queue, _):
            card = Card(queue, clock, rate)
            await measure(queue, card)
            for user, model, steps, count, draws in pile:
                await ask(queue, user, model, steps=steps, count=count)
                for _ in range(draws):
                    if await queue.open_jobs():
                        await card.draw()
            drawing = await card.begin() if running and await queue.open_jobs() else None
            predicted = await queue.open_jobs()
            places = [await queue.place(job.id) for job in predicted]
            for job, place in zip(predicted, places, strict=True):
                before = card.model
                if drawing is None:
                    drawing = await card.begin()
                    switch_s = SWITCH_S if card.model != before else 0.0
                    assert place.starts_at == pytest.approx(clock.now + switch_s, abs=1e-3)
                assert drawing.id == job.id
                await card.end(drawing)
                assert place.ends_at == pytest.approx(clock.now, abs=1e-3)
                drawing = None
            assert not await queue.open_jobs()

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))


async def test_a_place_counts_the_switches_before_it(queue, clock):
    card = Card(queue, clock, rate=100.0)
    first = await ask(queue, 1, OTHER)
    assert (await queue.place(first.id)).starts_at is None, "no switch was ever measured"
    await queue.cancel(first.id, by=1)
    await measure(queue, card)
    queue.forecast.leeway = Leeway(0.0, 0.0)
    seconds = make_request().megapixel_steps * 100
    pile = [await ask(queue, user, model) for user, model in ((2, OTHER), (3, None), (4, None))]
    starts = [(await queue.place(job.id)).starts_at - clock.now for job in pile]
    assert starts == pytest.approx([10, 20 + seconds, 20 + 2 * seconds], abs=1e-3)
    running = await card.begin()
    clock.now += 4.0
    ends = (await queue.place(running.id)).ends_at - clock.now
    assert ends == pytest.approx(6.0 + seconds, abs=1e-3)


async def test_who_has_an_engine_switch_is_served_that_long(queue, database, clock):
    card = Card(queue, clock)
    await measure(queue, card)
    cost = make_request().megapixel_steps
    rows = await database.read(lambda tx: tx.all("SELECT gpu_seconds FROM usage"))
    assert [row[0] for row in rows] == pytest.approx([cost + SWITCH_S] * 3)
    served = await ask(queue, 1, OTHER)
    await card.draw()
    assert (await queue.job(served.id)).state is JobState.GENERATED
    # The second user's pile is worth less than the switch.
    pile = [await ask(queue, 2, OTHER) for _ in range(5)]
    late = await ask(queue, 1, OTHER)
    assert [job.id for job in await queue.open_jobs()] == [*(job.id for job in pile), late.id]


async def test_a_limit_counts_what_jobs_of_the_model_spent_on_switches(database, clock):
    queue = JobQueue(
        database, Limits(open_jobs=99, gpu_seconds_per_day=5), model=MODEL, clock=clock
    )
    card = Card(queue, clock)
    for number in range(4):
        await ask(queue, 90 + number)
        await ask(queue, 80 + number, OTHER)
    queue.forecast.leeway = Leeway(1e6, 1e6)
    for _ in range(8):
        await card.draw()
    # One switch served the four jobs of the other model; none was made for the configured one.
    cost = make_request().megapixel_steps
    charged = "SELECT charged_seconds FROM usage WHERE job_id = ?"
    for model, share in ((MODEL, 0.0), (OTHER, SWITCH_S / 4)):
        job = await ask(queue, 1, model)
        assert await one(database, charged, job.id) == pytest.approx(cost + share)
    # There is room for three more of the one, and for none of the other.
    with refused(LimitReached, match="2 s of 5 s on the graphics card left"):
        await ask(queue, 1, OTHER)
    for _ in range(3):
        await ask(queue, 1)


def test_a_switch_is_no_part_of_the_time_for_a_step():
    timings = {"load": 60.0, "switch": 10.0, "encode": 1.0, "denoise": 5.0, "total": 76.0}
    assert (gpu_seconds(timings), drawn_seconds(timings)) == (16.0, 6.0)
    cost = model_cost([(3.0, timings), (3.0, {"denoise": 6.0, "total": 6.0})])
    assert (cost.rate, cost.switch_s, cost.share_s) == (2.0, 10.0, 5.0)
    assert (model_cost([]).rate, model_cost([]).charge(40.0)) == (None, 0.0)


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
