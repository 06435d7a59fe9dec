"""Seats: when each engine is free, and which model it has then, played forward job by job."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from bot.jobs.outlook import EngineOutlook, Outlook, QueuePlace
from storage.jobs import Unfinished


@dataclass(frozen=True, slots=True)
class Sitting:
    """When a job starts and ends, in Unix seconds, None where unknown.

    `switch_s` is how long its engine takes before to change its model.
    """

    starts_at: float | None
    ends_at: float | None
    switch_s: float | None = 0.0


@dataclass(slots=True)
class _Seat:
    at: float
    """When it is free; infinity where unknown."""
    model: str | None
    rated: str
    """The model that `rate` was measured with."""
    rate: float | None


class Seats:
    """The engines that take jobs, from the moment of an outlook on."""

    def __init__(self, running: Iterable[Unfinished], outlook: Outlook) -> None:
        self.places: dict[str, QueuePlace] = {}
        """Those of the running jobs."""
        self.elsewhere = 0
        """How many of them end on engines that take no more."""
        self._outlook = outlook
        self._seats: list[_Seat] = []
        drawing = {engine.job_id: engine for engine in outlook.engines if engine.job_id is not None}
        idle = [engine for engine in outlook.engines if engine.job_id is None]
        for job in running:
            # A job that was just claimed is not yet known to its engine.
            engine = drawing.get(job.id) or (idle.pop(0) if idle else EngineOutlook(taking=False))
            self._begin(job, engine)
        for engine in idle:
            if engine.taking:
                ready_at = _plus(outlook.now, 0.0 if engine.ready else outlook.load_s)
                self._add(ready_at, engine.model if engine.ready else None, engine)

    def __len__(self) -> int:
        return len(self._seats)

    def models(self) -> set[str | None]:
        """Return the models of the engines that are free first; None for one that has none."""
        return {seat.model for seat in self._free()}

    def sit(self, job: Unfinished) -> Sitting:
        """Give a job to the best engine of those that are free first; there is one."""
        seat = self._best(job)
        costs, switch_s = self._outlook.costs, 0.0
        if seat.model not in {None, job.model}:
            switch_s = costs.of(job.model).switch_s
        rate = seat.rate if seat.rated == job.model else None
        starts_at = ends_at = None
        if not self._outlook.paused and seat.at < math.inf:
            starts_at = _plus(seat.at, switch_s)
        if (seconds := costs.of(job.model).expected(job, rate)) is not None:
            ends_at = _plus(starts_at, seconds)
        seat.at, seat.model = _known(ends_at), job.model
        return Sitting(starts_at, ends_at, switch_s)

    def _begin(self, job: Unfinished, engine: EngineOutlook) -> None:
        outlook, cost = self._outlook, self._outlook.costs.of(job.model)
        started = job.started_at if job.started_at is not None else outlook.now
        load_s = 0.0 if engine.ready else outlook.load_s
        if engine.ready and engine.switched:
            load_s = cost.switch_s
        load_s = load_s and max(0.0, load_s - (outlook.now - started))
        seconds = cost.expected(job, engine.rate if engine.model == job.model else None)
        left = None if seconds is None else seconds * (1 - outlook.progress(job.id))
        ends_at = _plus(_plus(outlook.now, load_s), left)
        self.places[job.id] = QueuePlace(0, started, ends_at)
        if engine.taking:
            self._add(ends_at, job.model, engine)
        else:
            self.elsewhere += 1  # Its end lets nobody begin.

    def _add(self, at: float | None, model: str | None, engine: EngineOutlook) -> None:
        self._seats.append(_Seat(_known(at), model, engine.model or "", engine.rate))

    def _free(self) -> list[_Seat]:
        if len(self._seats) == 1:
            return self._seats
        soonest = min((seat.at for seat in self._seats), default=math.inf)
        return [seat for seat in self._seats if seat.at == soonest]

    def _best(self, job: Unfinished) -> _Seat:
        free = self._free()
        if len(free) == 1:
            return free[0]
        copies = Counter(seat.model for seat in self._seats)
        return min(free, key=lambda seat: misfit(seat.model, job.model, copies))


def misfit(loaded: str | None, wanted: str, copies: Counter[str | None]) -> tuple[bool, int]:
    """Return a key that is smallest for the engine which a job of model `wanted` should go to.

    Best is one that has the model, or none yet; else the one whose model most engines have
    (`copies`), so that a rare one stays somewhere.
    """
    if loaded is None or loaded == wanted:
        return False, 0
    return True, -copies[loaded]


def _known(time: float | None) -> float:
    return math.inf if time is None else time


def _plus(time: float | None, seconds: float | None) -> float | None:
    return None if time is None or seconds is None else time + seconds
