"""The forecast: the fair order and the estimates, over what database and engines know now."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bot.domain.job import Job
from bot.jobs.control import QueueControl
from bot.jobs.costs import Costs, ModelCost
from bot.jobs.feed import Feed
from bot.jobs.outlook import Awaited, EngineOutlook, Outlook, QueuePlace, awaited
from bot.jobs.schedule import fair_order, model_cost, places, running_order
from bot.jobs.turns import Leeway, Turn, next_turn
from storage import facts, jobs, usage
from storage.database import Database, Transaction
from storage.usage import Window

# How far back the fair order looks. Whoever had the card to themselves is caught up with within
# half of it.
FAIR_WINDOW_S: Final = 3600


@dataclass(frozen=True, slots=True)
class OpenQueue:
    """The running jobs, then the queued ones as they will be claimed, and each one's place."""

    order: Sequence[jobs.Unfinished]
    places: Mapping[str, QueuePlace]


@dataclass(frozen=True, slots=True)
class Observed:
    """What order and places rest on, at one moment; the open jobs come oldest first."""

    jobs: Sequence[jobs.Unfinished]
    served: usage.Served
    outlook: Outlook

    @property
    def size(self) -> int:
        """How much work it is, in jobs of a queue of one model; several take ten times as much."""
        several = len({job.model for job in self.jobs}) > 1
        return len(self.jobs) * (10 if several else 1)

    def worked_out(self) -> OpenQueue:
        """Return order and places: arithmetic, for which no transaction has to stay open."""
        order = running_order(self.jobs, self.served, self.outlook)
        return OpenQueue(order, places(order, self.outlook))


class Forecast:
    """Who is next, and when; its functions run within a transaction of the caller."""

    def __init__(
        self,
        database: Database,
        feed: Feed,
        control: QueueControl,
        *,
        model: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.engines: Callable[[], Sequence[EngineOutlook]] = lambda: [EngineOutlook()]
        """The engines as they stand; the fleet sets it."""
        self.leeway = Leeway()
        """How far the order gives way to the loaded models, for each engine."""
        self.load_s: float | None = None
        """How long the model took to load the last time that anyone asked for places, in s."""
        self._database = database
        self._feed = feed
        self._control = control
        self._model = model
        self._load_fact = f"load_seconds:{model}"
        self._clock = clock

    async def next(self, tx: Transaction) -> Turn | None:
        """Return whose turn it is on the engines that are free, if anyone waits."""
        found = await self._observe(tx)
        outlook, free = found.outlook, self._free(found.outlook.engines)
        order = fair_order(found.jobs, found.served, outlook)
        passed_s = {job.id: job.passed_s for job in found.jobs}
        return next_turn(order, free, outlook.leeway, passed_s)

    async def look(self, tx: Transaction) -> Observed:
        """Return what order and places rest on."""
        return await self._observe(tx)

    async def _observe(self, tx: Transaction) -> Observed:
        engines = [replace(one, model=one.model or self._model) for one in self.engines()]
        load_s: float | None = 0.0
        if not all(engine.ready for engine in engines):
            fact = await facts.get_fact(tx, self._load_fact)
            load_s = self.load_s = None if fact is None else float(fact)
        waiting = await jobs.unfinished(tx, self._model)
        outlook = Outlook(
            now=self._clock(),
            costs=await self._costs(tx, {self._model, *(job.model for job in waiting)}),
            load_s=load_s,
            paused=self._control.paused is not None,
            progress=self._progress,
            engines=engines,
            leeway=self.leeway.of(max(1, sum(engine.taking for engine in engines))),
        )
        served = await usage.served(tx, Window(outlook.now, FAIR_WINDOW_S))
        return Observed(waiting, served, outlook)

    def awaited(self, job: Job) -> Awaited:
        """Return what a job waits for if it is next."""
        engines = [replace(one, model=one.model or self._model) for one in self.engines()]
        return awaited(engines, job.id, job.model or self._model)

    async def note_load_time(self, seconds: float) -> None:
        """Remember how long the model took to load."""
        self.load_s = seconds

        async def note(tx: Transaction) -> None:
            await facts.set_fact(tx, self._load_fact, f"{seconds:.3f}")
            await facts.set_fact(tx, facts.LOAD_FAILURE, None)

        await self._database.write(note)

    async def note_load_failure(self, detail: str) -> None:
        """Remember why the model cannot be loaded, until it can."""
        failure = json.dumps({"at": self._clock(), "detail": detail})
        await self._database.write(lambda tx: facts.set_fact(tx, facts.LOAD_FAILURE, failure))

    async def cost(self, tx: Transaction, model: str | None = None) -> ModelCost:
        """Return what jobs of a model took of late; None: of the configured one."""
        name = model or self._model
        return model_cost(await jobs.history(tx, name), await jobs.written(tx, name))

    async def measured(self, model: str | None = None) -> float | None:
        """Return the measured seconds for a megapixel step, or None without history."""
        return (await self._database.read(lambda tx: self.cost(tx, model))).rate

    async def token_seconds(self, model: str | None = None) -> float | None:
        """Return the measured seconds for an expected token, or None without history."""
        return (await self._database.read(lambda tx: self.cost(tx, model))).token_s

    async def _costs(self, tx: Transaction, models: Iterable[str]) -> Costs:
        return Costs({model: await self.cost(tx, model) for model in sorted(models)})

    @staticmethod
    def _free(engines: Iterable[EngineOutlook]) -> set[str | None]:
        """Return the models of the engines that wait for a job; None for one that has none."""
        return {
            one.model if one.ready else None
            for one in engines
            if one.waits and one.taking and one.job_id is None
        }

    def _progress(self, job_id: str) -> float:
        latest = self._feed.latest(job_id)
        return min(1.0, latest.step / latest.total) if latest and latest.total else 0.0
