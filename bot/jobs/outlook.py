"""The outlook: what order and estimates rest on at one moment, and what they say of a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from bot.jobs.costs import Costs
from bot.jobs.turns import PLAIN, Leeway


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where a job stands: how many have to end before it starts, and when it starts and ends.

    Times are Unix seconds from measured history, None where unknown (or while the queue pauses).
    """

    ahead: int
    starts_at: float | None
    ends_at: float | None


class Awaited(Enum):
    """What has to come before the job that is next is drawn."""

    NOW = auto()
    LOADING = auto()
    CHANGE = auto()
    """Another model is loaded, and makes room for the job's."""
    PICTURE = auto()
    """The picture that an engine draws."""
    ENGINE = auto()
    """An engine that takes jobs: none does."""


@dataclass(frozen=True, slots=True)
class EngineOutlook:
    """One engine: the job that it draws, whether a model is loaded, whether it takes more.

    `rate` is its own time for a megapixel step of `model` in seconds; None: as all together.
    """

    job_id: str | None = None
    ready: bool = True
    taking: bool = True
    rate: float | None = None
    model: str | None = None
    """The model that is loaded, or was last; None: the configured one."""
    waits: bool = True
    """Whether it could be handed a job right now, if it draws none."""
    switched: bool = False
    """Whether its job had it change its model."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the estimates rest on. Times are seconds.

    `costs` are those of the jobs' models, `load_s` is the time of loading a model, None if never
    measured. `progress` tells how far a running job is, 0 to 1. `leeway` is that of all engines
    together.
    """

    now: float
    costs: Costs
    load_s: float | None
    paused: bool
    progress: Callable[[str], float]
    engines: Sequence[EngineOutlook]
    leeway: Leeway = PLAIN


def awaited(engines: Sequence[EngineOutlook], job_id: str, model: str) -> Awaited:
    """Return what the job waits for if it is next; each engine names the `model` that it has."""
    taking = [engine for engine in engines if engine.taking]
    free = [engine for engine in taking if engine.job_id in {None, job_id}]
    if not free:
        return Awaited.PICTURE if taking else Awaited.ENGINE
    ready = [engine for engine in free if engine.ready]
    if any(engine.model == model for engine in ready):
        return Awaited.NOW
    return Awaited.CHANGE if ready else Awaited.LOADING
