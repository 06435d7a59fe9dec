"""A queue of several models: claims, estimates and charges know what an engine has loaded."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.job import JobState
from bot.errors import LimitReached
from bot.jobs.outlook import EngineOutlook
from bot.jobs.queue import JobQueue
from bot.jobs.schedule import drawn_seconds, gpu_seconds, model_cost
from bot.jobs.turns import Leeway
from bot.rules.limits import Limits
from storage import jobs
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
    with refused(LimitReached, match="2 s of 5 s of graphics card time left"):
        await ask(queue, 1, OTHER)
    for _ in range(3):
        await ask(queue, 1)


def test_a_switch_is_no_part_of_the_time_for_a_step():
    timings = {"load": 60.0, "switch": 10.0, "encode": 1.0, "denoise": 5.0, "total": 76.0}
    assert (gpu_seconds(timings), drawn_seconds(timings)) == (16.0, 6.0)
    cost = model_cost([(3.0, timings), (3.0, {"denoise": 6.0, "total": 6.0})])
    assert (cost.rate, cost.switch_s, cost.share_s) == (2.0, 10.0, 5.0)
    assert (model_cost([]).rate, model_cost([]).charge(40.0)) == (None, 0.0)
