"""The schedule: in which order jobs will run, and when; arithmetic over measured history."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from bot.domain.job import JobState
from bot.domain.writing import EXPECTED_TOKENS, Writing
from bot.jobs.costs import ModelCost
from bot.jobs.fair_order import FairOrder
from bot.jobs.outlook import Outlook, QueuePlace
from bot.jobs.seats import Seats
from bot.jobs.turns import next_turn
from storage.jobs import Unfinished
from storage.usage import Served

# For the limit of time. Far above what warming up takes, and above the slowest way that was ever
# measured: DiffSynth's own offloading, 23 s a step of a megapixel.
_LEAST_S: Final = 600.0
_LEAST_UNMEASURED_S: Final = 3600.0
_SLOWEST_RATE: Final = 60.0
_APART: Final = frozenset({"load", "total", "rewrite"})


def gpu_seconds(timings: Mapping[str, float]) -> float:
    """Return what a job cost the GPU: all stages but loading a model, which serves everyone.

    A switch, which an engine made for this very job, is among them. Rewriting the prompt is not: it
    is charged when that is done.
    """
    stages = [seconds for name, seconds in timings.items() if name not in _APART]
    if stages:
        return sum(stages)
    return max(0.0, timings.get("total", 0.0) - timings.get("load", 0.0))


def seconds_per_unit(history: Iterable[tuple[float, Mapping[str, float]]]) -> float | None:
    """Return the median seconds for a megapixel step, or None without history."""
    rates = [drawn_seconds(timings) / work for work, timings in history if work > 0]
    return statistics.median(rates) if rates else None


def drawn_seconds(timings: Mapping[str, float]) -> float:
    """Return what a job cost the GPU, less the switch to its model."""
    return gpu_seconds(timings) - timings.get("switch", 0.0)


def seconds_per_token(written: Iterable[tuple[float, Mapping[str, float]]]) -> float | None:
    """Return the median seconds for an expected token, or None without history.

    Each comes as (expected tokens, timings); with 0 tokens it is a prompt that was rewritten.
    """
    rates = [
        drawn_seconds(timings) / tokens
        if tokens
        else timings.get("rewrite", 0.0) / EXPECTED_TOKENS[Writing.ENHANCE]
        for tokens, timings in written
    ]
    return statistics.median(rates) if rates else None


def model_cost(
    history: Sequence[tuple[float, Mapping[str, float]]],
    written: Iterable[tuple[float, Mapping[str, float]]] = (),
) -> ModelCost:
    """Return what a model's last jobs took: (work in megapixel steps, timings in seconds) each.

    `written` are the newest texts (`seconds_per_token`).
    """
    spent = [timings.get("switch", 0.0) for _, timings in history]
    return ModelCost(
        rate=seconds_per_unit(history),
        switch_s=statistics.median(made) if (made := [s for s in spent if s > 0]) else None,
        share_s=statistics.fmean(spent) if spent else 0.0,
        token_s=seconds_per_token(written),
    )


def time_limit(work: float, rates: Iterable[float | None], factor: float) -> float:
    """Return the seconds after which a job counts as stuck, whatever its engine says.

    That is `factor` times what `work` (megapixel steps) takes by the slowest of `rates` (seconds a
    unit, None: not measured), and a time that no first picture exceeds where nothing is measured.
    """
    known = [rate for rate in rates if rate]
    if not known:
        return max(_LEAST_UNMEASURED_S, work * _SLOWEST_RATE)
    return max(_LEAST_S, factor * work * max(known))


def writing_limit(tokens: float, token_s: float | None, factor: float) -> float:
    """Return the seconds after which a text counts as stuck, as `time_limit` does for pictures."""
    if not token_s:
        return _LEAST_UNMEASURED_S
    return max(_LEAST_S, factor * tokens * token_s)


def fair_order(jobs: Sequence[Unfinished], served: Served, outlook: Outlook) -> FairOrder:
    """Return the fair order of `jobs`, which come oldest first, the running ones among them."""
    costs = outlook.costs
    switched = {engine.job_id for engine in outlook.engines if engine.switched}

    def cost(job: Unfinished) -> float:
        if job.id in switched:
            return costs.seconds(job) + (costs.of(job.model).switch_s or 0.0)
        return costs.seconds(job)

    return FairOrder(jobs, served, cost)


def running_order(jobs: Sequence[Unfinished], served: Served, outlook: Outlook) -> list[Unfinished]:
    """Return the running jobs, then the queued ones in the order in which they will be claimed.

    `jobs` come oldest first. What drops out of the window of `served` meanwhile is not foreseen.
    """
    running = [job for job in jobs if job.state is JobState.RUNNING]
    order, waiting = list(running), fair_order(jobs, served, outlook)
    seats = Seats(running, outlook)
    passed_s = {job.id: job.passed_s for job in jobs}
    while turn := next_turn(waiting, seats.models(), outlook.leeway, passed_s):
        for job_id in turn.passed:
            passed_s[job_id] += turn.seconds
        switch_s = (seats.sit(turn.job).switch_s or 0.0) if seats else 0.0
        waiting.take(turn.job, waiting.cost(turn.job) + switch_s)
        order.append(turn.job)
    return order


def places(order: Sequence[Unfinished], outlook: Outlook) -> dict[str, QueuePlace]:
    """Return the place of each job of `running_order`: each goes to the engine free first."""
    running = [job for job in order if job.state is JobState.RUNNING]
    seats = Seats(running, outlook)
    found = dict(seats.places)
    ahead = len(running) - max(1, len(seats)) + 1 - (seats.elsewhere if seats else 0)
    for number, job in enumerate(order[len(running) :], ahead):
        starts_at = ends_at = None
        if seats:
            sitting = seats.sit(job)
            starts_at, ends_at = sitting.starts_at, sitting.ends_at
        found[job.id] = QueuePlace(max(0, number), starts_at, ends_at)
    return found
