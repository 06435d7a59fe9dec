"""The order in which jobs will run, and when: arithmetic over measured history, no I/O."""

from __future__ import annotations

import heapq
import statistics
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bot.jobs.model import JobState
from storage.jobs import Unfinished

# Seconds a unit of work while nothing was measured, for the order alone: it weighs jobs by size.
UNMEASURED_RATE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job stands: how many come before it, and when it starts and ends.

    Times are Unix seconds from measured history, None where unknown (or while the queue pauses).
    """

    ahead: int
    starts_at: float | None
    ends_at: float | None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the estimates rest on. Times are seconds.

    `rate` is the time for a megapixel step, `load_s` that until the model is loaded (0 when it is);
    None means never measured. `progress` tells how far a running job is, 0 to 1.
    """

    now: float
    rate: float | None
    load_s: float | None
    paused: bool
    progress: Callable[[str], float]


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


def running_order(
    jobs: Sequence[Unfinished], served: Mapping[int, float], rate: float | None
) -> list[Unfinished]:
    """Return the running jobs, then the queued ones in the order in which they will be claimed.

    `jobs` come oldest first. This is what `storage.jobs.NEXT_JOB` does, played forward: a job
    counts as served for its user's next one.
    """
    cost = UNMEASURED_RATE if rate is None else rate
    total = defaultdict(float, served)
    running = [job for job in jobs if job.state is JobState.RUNNING]
    for job in running:
        total[job.user_id] += job.work * cost
    waiting: dict[int, deque[tuple[int, Unfinished]]] = defaultdict(deque)
    for age, job in enumerate(jobs):
        if job.state is JobState.QUEUED:
            waiting[job.user_id].append((age, job))
    heads = [(round(total[user], 3), queue[0][0], user) for user, queue in waiting.items()]
    heapq.heapify(heads)
    order = running
    while heads:
        _, _, user = heapq.heappop(heads)
        _, job = waiting[user].popleft()
        order.append(job)
        total[user] += job.work * cost
        if waiting[user]:
            heapq.heappush(heads, (round(total[user], 3), waiting[user][0][0], user))
    return order


def places(order: Sequence[Unfinished], outlook: Outlook) -> dict[str, Place]:
    """Return the place of each job of `running_order`, for one GPU."""
    found: dict[str, Place] = {}
    free_at = _plus(outlook.now, outlook.load_s)
    for ahead, job in enumerate(order):
        seconds = None if outlook.rate is None else job.work * outlook.rate
        if job.state is JobState.RUNNING:
            started = job.started_at if job.started_at is not None else outlook.now
            load_s = outlook.load_s and max(0.0, outlook.load_s - (outlook.now - started))
            left = None if seconds is None else seconds * (1 - outlook.progress(job.id))
            free_at = _plus(_plus(outlook.now, load_s), left)
            found[job.id] = Place(0, started, free_at)
        else:
            starts_at = None if outlook.paused else free_at
            free_at = _plus(starts_at, seconds)
            found[job.id] = Place(ahead, starts_at, free_at)
    return found


def _plus(time: float | None, seconds: float | None) -> float | None:
    return None if time is None or seconds is None else time + seconds
