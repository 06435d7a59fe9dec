"""Simulation of a day of many engines and users, in virtual time: `python -m bot bench simulate`.

The queue, its limits and its database are the real ones, on a real file, and so are the workers.
Only the drawing is left out: an engine waits as long as a picture would take, on a clock that jumps
to the next event when nothing else is going on (`bot/lab/bench/virtual.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from bot.domain.job import ImageRecord, Job, Origin, Target
from bot.domain.request import ImageRequest
from bot.errors import LimitReached, QueueClosed
from bot.fleet.fleet import Fleet
from bot.jobs.commits import Commits
from bot.jobs.queue import JobQueue
from bot.jobs.turns import PLAIN
from bot.lab.bench.population import MODEL, Person, Population, model_of, text_of
from bot.lab.bench.response import percentile
from bot.lab.bench.tally import Entry, Tally
from bot.lab.bench.virtual import HeldDatabase, VirtualLoop
from bot.lab.bench.virtual_engine import (
    NoStore,
    VirtualEngine,
    drawing_seconds,
    writing_seconds,
)
from bot.logs import set_up_logging
from bot.rules.limits import Limits

# 2026-01-01T00:00:00Z; which day it is makes no difference.
_MIDNIGHT: Final = 1_767_225_600.0
# The defaults of the settings; a plan may lift that of pictures a day, which ends heavy users' day.
_LIMITS: Final = Limits()
_THINK_S: Final = 5.0
_REFUSED_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is simulated. `load` is what light users ask for, as a share of what can be drawn.

    An engine takes `slower` times an H100's time. `images_a_day` is each user's limit. `heavy` are
    the users who always have something waiting; None: so many that they alone keep more than all
    engines busy. `models` are the shares of the jobs that ask for the first, second, third model;
    a switch between them takes `switch_seconds`. `plain`: the fair order gives way to no model.
    """

    engines: int = 64
    users: int = 10_000
    hours: float = 24.0
    load: float = 0.9
    slower: float = 6.0
    images_a_day: int = 100_000
    seed: int = 1
    heavy: int | None = None
    models: tuple[float, ...] = (1.0,)
    switch_seconds: float = 0.0
    texts: float = 0.0
    """The share of requests by which a prompt is rewritten, and nothing drawn."""
    plain: bool = False


class _Commits(Commits):
    """The queue's commits, which tell when the end of a job is one."""

    def __init__(self, database: HeldDatabase, tally: Tally, clock: Callable[[], float]) -> None:
        super().__init__(database, clock=clock)
        self.ends: dict[str, asyncio.Event] = {}
        self._tally = tally

    @override
    async def record_generated(
        self,
        job: Job,
        images: Sequence[ImageRecord],
        timings: Mapping[str, float],
        peak_gpu_bytes: int | None,
        model: str,
        *,
        text: str | None = None,
    ) -> bool:
        recorded = await super().record_generated(
            job, images, timings, peak_gpu_bytes, model, text=text
        )
        if recorded:
            self._tally.ended(job.id)
            self.ends[job.id].set()
        return recorded


class _Day:
    def __init__(
        self, plan: Plan, loop: VirtualLoop, queue: JobQueue, commits: _Commits, tally: Tally
    ) -> None:
        self._plan = plan
        self._loop = loop
        self._queue = queue
        self._ends = commits.ends
        self._tally = tally
        self._day_s = plan.hours * 3600
        self._sources = itertools.count(1)
        self.submit_s: list[float] = []
        """Real seconds of each submission."""
        # With three open jobs each they alone keep more than all engines busy.
        heavy = max(2, math.ceil(plan.engines * 3 / 8)) if plan.heavy is None else plan.heavy
        self.population = Population(plan.users, heavy, seed=plan.seed)

    async def run(self) -> None:
        """Let everyone ask for a day, then wait until all is drawn."""
        mean_s = self.population.mean_seconds(
            lambda one: seconds_of(text_of(one, self._plan.texts), self._plan.slower)
        )
        jobs = self._plan.load * self._plan.engines * self._day_s / mean_s
        tasks = [
            asyncio.ensure_future(self._always(person, slot))
            for person in self.population.heavy
            for slot in range(_LIMITS.open_jobs)
        ]
        for arrival in self.population.arrivals(jobs, self._day_s):
            await asyncio.sleep(arrival.at - self._loop.time())
            with suppress(LimitReached, QueueClosed):
                await self._ask(arrival.user, arrival.server, arrival.request, heavy=False)
        await asyncio.gather(*tasks)
        for end in self._ends.values():
            await end.wait()

    async def _always(self, person: Person, slot: int) -> None:
        """Ask again as soon as a job is drawn: of these there are as many as jobs may be open."""
        seed = self._plan.seed * 1_000_003 + person.user * 10 + slot
        of = random.Random(seed)  # noqa: S311 - nothing secret
        server = person.servers[0]
        await asyncio.sleep(of.uniform(0.0, 60.0))
        while self._loop.time() < self._day_s:
            request = self.population.request(of)
            pause_s = of.expovariate(1 / _THINK_S)
            try:
                job_id = await self._ask(person.user, server, request, heavy=True)
            except LimitReached as refusal:
                pause_s = (refusal.retry_at or 0.0) - _MIDNIGHT - self._loop.time()
                pause_s = max(_REFUSED_S, pause_s)
            except QueueClosed:
                pause_s = _REFUSED_S
            else:
                await self._ends[job_id].wait()
            await asyncio.sleep(min(pause_s, max(0.0, self._day_s - self._loop.time())))

    async def _ask(
        self, user: int, server: int | None, request: ImageRequest, *, heavy: bool
    ) -> str:
        """Submit a request and return its job's id; raise what refuses it."""
        origin = Origin(
            source_id=f"s{next(self._sources)}",
            target=Target.INTERACTION,
            user_id=user,
            user_name=f"user {user}",
            guild_id=server,
            channel_id=server or user,
        )
        job_id = self._queue.new_job_id()
        model = model_of(request, self._plan.models)
        request = text_of(request, self._plan.texts)
        now = self._loop.time()
        entry = Entry(user, server or 0, heavy, request.pictures, now, model=model)
        self._ends[job_id] = asyncio.Event()
        self._tally.asked(job_id, entry)
        began = time.perf_counter()
        try:
            await self._queue.submit(request, origin, job_id=job_id, model=model)
        except (LimitReached, QueueClosed) as refusal:
            full = isinstance(refusal, QueueClosed)
            self._tally.refuse(job_id, "queue_full" if full else "own_limit")
            del self._ends[job_id]
            raise
        self.submit_s.append(time.perf_counter() - began)
        return job_id


def seconds_of(request: ImageRequest, slower: float) -> float:
    """Return the seconds that an engine takes for a request, without their spread."""
    if request.writes:
        return sum(writing_seconds(request.tokens).values()) * slower
    stages = drawing_seconds(request.width, request.height, request.steps, request.count)
    return sum(stages.values()) * slower


def simulate(plan: Plan, folder: Path) -> dict[str, Any]:
    """Run a day in `folder`; return its figures, those of real time under `real`."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        return runner.run(_simulated(plan, loop, folder))


async def _simulated(plan: Plan, loop: VirtualLoop, folder: Path) -> dict[str, Any]:
    began, cpu = time.perf_counter(), time.process_time()
    database = await HeldDatabase.open(folder / "bot.sqlite3")
    try:
        tally = Tally(plan.engines, plan.hours * 3600, loop.time)
        loop.before_jump.append(tally.settled)
        with loop.flowing():
            day = await _live(plan, loop, database, folder, tally)
        states = await database.read(
            lambda tx: tx.all("SELECT state, count(*) AS jobs FROM jobs GROUP BY state")
        )
        passed_s = await database.read(lambda tx: tx.value("SELECT max(passed_s) FROM jobs"))
        commits = database.commits
    finally:
        await database.close()
    figures = tally.figures()
    jobs = max(1, figures["jobs"])
    real_s = time.perf_counter() - began
    return {
        "plan": asdict(plan),
        "servers": day.population.servers,
        **figures,
        "passed_over_s": round(passed_s or 0.0, 1),
        "states": {row["state"]: row["jobs"] for row in states},
        "ended_once": sum(entry.ends == 1 for entry in tally.entries.values()),
        "real": {
            "seconds": round(real_s, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "speed_up": round(loop.time() / real_s),
            "ms_a_job": round(1000 * real_s / jobs, 2),
            "submit_p50_ms": round(1000 * percentile(day.submit_s, 0.5), 2),
            "submit_p99_ms": round(1000 * percentile(day.submit_s, 0.99), 2),
            "commits_a_job": round(commits / jobs, 2),
            "database_mib": round((folder / "bot.sqlite3").stat().st_size / 2**20, 1),
        },
    }


async def _live(
    plan: Plan, loop: VirtualLoop, database: HeldDatabase, folder: Path, tally: Tally
) -> _Day:
    def clock() -> float:
        return _MIDNIGHT + loop.time()

    limits = replace(_LIMITS, images_per_day=plan.images_a_day)
    commits = _Commits(database, tally, clock)
    queue = JobQueue(database, limits, model=MODEL, clock=clock, commits=commits)
    if plan.plain:
        queue.forecast.leeway = PLAIN
    await queue.start()
    fleet = Fleet(queue, NoStore(folder), database, clock=clock, timer=clock)
    for number in range(plan.engines):
        name = f"engine-{number}"
        engine = VirtualEngine(
            name,
            plan.slower,
            tally.started,
            model=MODEL,
            model_of=lambda job_id: tally.entries[job_id].model,
            switch_s=plan.switch_seconds,
        )
        await fleet.add(name, engine)
    day = _Day(plan, loop, queue, commits, tally)
    working = asyncio.ensure_future(fleet.run())
    try:
        await day.run()
    finally:
        working.cancel()
        await asyncio.wait({working})
    return day


def bench_simulate(options: argparse.Namespace) -> dict[str, Any]:
    """Run the benchmark; return its figures."""
    set_up_logging("WARNING")
    plan = Plan(**{field.name: getattr(options, field.name) for field in fields(Plan)})
    with tempfile.TemporaryDirectory() as folder:
        figures = simulate(plan, Path(folder))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return figures
