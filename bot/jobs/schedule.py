"""The schedule: in which order jobs will run, and when; arithmetic over measured history."""

from __future__ import annotations

import heapq
import math
import statistics
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bot.domain.job import JobState
from storage.jobs import Unfinished
from storage.usage import Served

# Seconds a unit of work while nothing was measured, for the order alone: it weighs jobs by size.
UNMEASURED_RATE: Final = 1.0
# For the limit of time. Far above what warming up takes, and above the slowest way that was ever
# measured: DiffSynth's own offloading, 23 s a step of a megapixel.
_LEAST_S: Final = 600.0
_LEAST_UNMEASURED_S: Final = 3600.0
_SLOWEST_RATE: Final = 60.0


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where a job stands: how many have to end before it starts, and when it starts and ends.

    Times are Unix seconds from measured history, None where unknown (or while the queue pauses).
    """

    ahead: int
    starts_at: float | None
    ends_at: float | None


@dataclass(frozen=True, slots=True)
class EngineOutlook:
    """One engine: the job that it draws, whether its model is loaded, whether it takes more.

    `rate` is its own time for a megapixel step in seconds; None: as all together.
    """

    job_id: str | None = None
    ready: bool = True
    taking: bool = True
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the estimates rest on. Times are seconds.

    `rate` is the time for a megapixel step, `load_s` that of loading the model; None means never
    measured. `progress` tells how far a running job is, 0 to 1.
    """

    now: float
    rate: float | None
    load_s: float | None
    paused: bool
    progress: Callable[[str], float]
    engines: Sequence[EngineOutlook]


def gpu_seconds(timings: Mapping[str, float]) -> float:
    """Return what a job cost the GPU: all stages but loading the model, which serves everyone."""
    stages = [seconds for name, seconds in timings.items() if name not in {"load", "total"}]
    if stages:
        return sum(stages)
    return max(0.0, timings.get("total", 0.0) - timings.get("load", 0.0))


def seconds_per_unit(history: Iterable[tuple[float, Mapping[str, float]]]) -> float | None:
    """Return the median seconds for a megapixel step, or None without history."""
    rates = [gpu_seconds(timings) / work for work, timings in history if work > 0]
    return statistics.median(rates) if rates else None


def time_limit(work: float, rates: Iterable[float | None], factor: float) -> float:
    """Return the seconds after which a job counts as stuck, whatever its engine says.

    That is `factor` times what `work` (megapixel steps) takes by the slowest of `rates` (seconds a
    unit, None: not measured), and a time that no first picture exceeds where nothing is measured.
    """
    known = [rate for rate in rates if rate]
    if not known:
        return max(_LEAST_UNMEASURED_S, work * _SLOWEST_RATE)
    return max(_LEAST_S, factor * work * max(known))


def running_order(
    jobs: Sequence[Unfinished], served: Served, rate: float | None
) -> list[Unfinished]:
    """Return the running jobs, then the queued ones in the order in which they will be claimed.

    `jobs` come oldest first. What drops out of the window of `served` meanwhile is not foreseen.
    """
    running = [job for job in jobs if job.state is JobState.RUNNING]
    return [*running, *queued_order(jobs, served, rate)]


def queued_order(
    jobs: Sequence[Unfinished], served: Served, rate: float | None
) -> Iterator[Unfinished]:
    """Yield the queued jobs in fair order, the first of which is claimed next.

    Servers share first, then the users within each; all that is outside of servers counts as one.
    Within a server the next job is the oldest of the user who was served least by weight; among
    these candidates that of the server served least, where a user counts for no less than what they
    had everywhere: whoever asks from many servers gets one server's share. Served is what the GPU
    spent of late, with the running jobs, and each one that was yielded, at their expected cost; to
    the millisecond, since sums of floats that are equal on paper differ in their last bits. `jobs`
    come oldest first, with the running ones among them.
    """
    cost = UNMEASURED_RATE if rate is None else rate
    users, servers = defaultdict(float, served.users), defaultdict(float, served.servers)

    def serve(job: Unfinished) -> None:
        users[job.user_id] += job.work * cost
        servers[job.server] += job.work * cost

    for job in jobs:
        if job.state is JobState.RUNNING:
            serve(job)
    lines: dict[int, _Line] = defaultdict(lambda: _Line(users))
    where: dict[int, set[int]] = defaultdict(set)
    for age, job in enumerate(jobs):
        if job.state is JobState.QUEUED:
            lines[job.server].add(age, job)
            where[job.user_id].add(job.server)
    # No two servers' keys are alike (a job's age is in them). A key changes only when its server or
    # one of its users is served: then the new one is added, and the old one is passed over.
    keys = {server: line.key(servers[server]) for server, line in lines.items()}
    heap = [(key, server) for server, key in keys.items()]
    heapq.heapify(heap)
    while heap:
        key, server = heapq.heappop(heap)
        if keys.get(server) != key:
            continue
        job = lines[server].take()
        yield job
        serve(job)
        if not lines[server].settle():
            del lines[server], keys[server]
        for changed in where[job.user_id] | {server}:
            if changed in lines:
                keys[changed] = lines[changed].key(servers[changed])
                heapq.heappush(heap, (keys[changed], changed))


class _Line:
    """The queued jobs of one server, by their users' served seconds and weights.

    Jobs of one user and weight stand in order of age, and of these only the first competes.
    What users were served grows only, so a stale entry of the heap is too small, and is put right
    when it comes to the top.
    """

    def __init__(self, users: Mapping[int, float]) -> None:
        self._users = users
        self._waiting: dict[tuple[int, float], deque[tuple[int, Unfinished]]] = defaultdict(deque)
        self._heap: list[tuple[float, int, tuple[int, float]]] = []

    def add(self, age: int, job: Unfinished) -> None:
        """Put the next older job in."""
        whose = (job.user_id, job.weight)
        if not self._waiting[whose]:
            heapq.heappush(self._heap, (self._share(whose), age, whose))
        self._waiting[whose].append((age, job))

    def key(self, server_s: float) -> tuple[float, int]:
        """Return what this server's first job is compared by with those of other servers."""
        self.settle()
        _, age, (user_id, _) = self._heap[0]
        return round(max(server_s, self._users[user_id]), 3), age

    def take(self) -> Unfinished:
        """Take the first job out."""
        _, _, whose = heapq.heappop(self._heap)
        _, job = self._waiting[whose].popleft()
        if self._waiting[whose]:
            heapq.heappush(self._heap, (self._share(whose), self._waiting[whose][0][0], whose))
        return job

    def settle(self) -> bool:
        """Bring the right job to the top; return False when none is left."""
        while self._heap:
            share, age, whose = self._heap[0]
            now = self._share(whose)
            if now == share:
                return True
            heapq.heapreplace(self._heap, (now, age, whose))
        return False

    def _share(self, whose: tuple[int, float]) -> float:
        user_id, weight = whose
        return round(self._users[user_id] / weight, 3)


def places(order: Sequence[Unfinished], outlook: Outlook) -> dict[str, QueuePlace]:
    """Return the place of each job of `running_order`: each goes to the engine free first."""
    found: dict[str, QueuePlace] = {}
    drawing = {engine.job_id: engine for engine in outlook.engines if engine.job_id is not None}
    idle = [engine for engine in outlook.engines if engine.job_id is None]
    # When each engine that takes jobs is free, and its own rate.
    free_at: list[tuple[float, int, float | None]] = []
    elsewhere = 0
    running = [job for job in order if job.state is JobState.RUNNING]
    for job in running:
        # A job that was just claimed is not yet known to its engine.
        engine = drawing.get(job.id) or (idle.pop(0) if idle else EngineOutlook(taking=False))
        started = job.started_at if job.started_at is not None else outlook.now
        load_s = 0.0 if engine.ready else outlook.load_s
        load_s = load_s and max(0.0, load_s - (outlook.now - started))
        rate = outlook.rate if engine.rate is None else engine.rate
        left = None if rate is None else job.work * rate * (1 - outlook.progress(job.id))
        ends_at = _plus(_plus(outlook.now, load_s), left)
        found[job.id] = QueuePlace(0, started, ends_at)
        if engine.taking:
            free_at.append((_known(ends_at), len(free_at), rate))
        else:
            elsewhere += 1  # Its end lets nobody begin.
    for engine in idle:
        if engine.taking:
            ready_at = _known(_plus(outlook.now, 0.0 if engine.ready else outlook.load_s))
            free_at.append(
                (ready_at, len(free_at), outlook.rate if engine.rate is None else engine.rate)
            )
    heapq.heapify(free_at)
    ahead = len(running) - max(1, len(free_at)) + 1 - (elsewhere if free_at else 0)
    for number, job in enumerate(order[len(running) :], ahead):
        starts_at: float | None = None
        ends_at: float | None = None
        if free_at:
            at, engine, rate = free_at[0]
            if not outlook.paused and at < math.inf:
                starts_at = at
            if rate is not None:
                ends_at = _plus(starts_at, job.work * rate)
            heapq.heapreplace(free_at, (_known(ends_at), engine, rate))
        found[job.id] = QueuePlace(max(0, number), starts_at, ends_at)
    return found


def _known(time: float | None) -> float:
    return math.inf if time is None else time


def _plus(time: float | None, seconds: float | None) -> float | None:
    return None if time is None or seconds is None else time + seconds
