"""The forecast: the fair order and the estimates, over what database and engines know now."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bot.jobs.control import QueueControl
from bot.jobs.feed import Feed
from bot.jobs.schedule import (
    EngineOutlook,
    Outlook,
    QueuePlace,
    places,
    queued_order,
    running_order,
    seconds_per_unit,
)
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

    def worked_out(self) -> OpenQueue:
        """Return order and places: arithmetic, for which no transaction has to stay open."""
        order = running_order(self.jobs, self.served, self.outlook.rate)
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
        self.load_s: float | None = None
        """How long the model took to load the last time that anyone asked for places, in s."""
        self._database = database
        self._feed = feed
        self._control = control
        self._model = model
        self._load_fact = f"load_seconds:{model}"
        self._clock = clock

    async def next(self, tx: Transaction) -> str | None:
        """Return the next job in fair order, if one waits."""
        served = await usage.served(tx, Window(self._clock(), FAIR_WINDOW_S))
        order = queued_order(await jobs.unfinished(tx), served, await self.rate(tx))
        first = next(order, None)
        return None if first is None else first.id

    async def look(self, tx: Transaction) -> Observed:
        """Return what order and places rest on."""
        engines = self.engines()
        load_s: float | None = 0.0
        if not all(engine.ready for engine in engines):
            fact = await facts.get_fact(tx, self._load_fact)
            load_s = self.load_s = None if fact is None else float(fact)
        outlook = Outlook(
            now=self._clock(),
            rate=await self.rate(tx),
            load_s=load_s,
            paused=self._control.paused is not None,
            progress=self._progress,
            engines=engines,
        )
        served = await usage.served(tx, Window(outlook.now, FAIR_WINDOW_S))
        return Observed(await jobs.unfinished(tx), served, outlook)

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

    async def rate(self, tx: Transaction) -> float | None:
        """Return the measured seconds for a megapixel step, or None without history."""
        return seconds_per_unit(await jobs.history(tx, self._model))

    async def measured(self) -> float | None:
        """Do as `rate`, outside of a transaction."""
        return await self._database.read(self.rate)

    def _progress(self, job_id: str) -> float:
        latest = self._feed.latest(job_id)
        return latest.step / latest.total if latest and latest.total else 0.0
