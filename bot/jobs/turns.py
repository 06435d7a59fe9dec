"""Turns: whose job is next on an engine that has a model loaded.

Fair order comes first, affinity second: as in delay scheduling, whoever's turn it is lets jobs pass
that run at no further cost where the engine is, and only for so long (Zaharia et al., Delay
Scheduling, EuroSys 2010). As in locality-aware fair queueing the order counts service, and those
who pass may not get far ahead in it (Cao et al., Locality-aware Fair Scheduling in LLM Serving,
arXiv:2501.14312).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from bot.jobs.fair_order import FairOrder
from storage.jobs import Unfinished

# How many jobs of the fair order are looked at for one of a loaded model.
_LOOKED_AT: Final = 64


@dataclass(frozen=True, slots=True)
class Leeway:
    """How far the order may give way to the loaded models, in expected GPU seconds.

    A job is passed over for `passed_s` at most, all in all, and only by jobs whose user or server
    is ahead of its own by `near_s` at most.
    """

    passed_s: float = 360.0
    near_s: float = 1800.0

    def of(self, engines: int) -> Leeway:
        """Return that of so many engines, which draw as many seconds at once."""
        return Leeway(self.passed_s * engines, self.near_s * engines)


PLAIN: Final = Leeway(0.0, 0.0)
"""Nobody is ever passed over."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The next job, and the ids of the jobs that it passes over, each for `seconds`."""

    job: Unfinished
    passed: tuple[str, ...] = ()
    seconds: float = 0.0


def next_turn(
    order: FairOrder,
    loaded: Collection[str | None],
    leeway: Leeway,
    passed_s: Mapping[str, float],
) -> Turn | None:
    """Return whose turn it is on the free engines, or None if nobody waits.

    `loaded` are the free engines' models, None for one that has none yet. `passed_s` are the
    seconds for which jobs were passed over already; those that are not in it never were.

    That is the first in fair order, unless its model is on no free engine: then the next one whose
    model is, if nobody before it is passed over beyond `leeway`. So a switch is made for the
    first in fair order only, and being passed over costs nobody a switch.
    """
    first = order.first()
    if first is None:
        return None
    if not loaded or None in loaded or first.model in loaded or not leeway.passed_s:
        return Turn(first)
    before: list[Unfinished] = []
    room = leeway.passed_s
    for number, job in enumerate(order.walk()):
        if number == _LOOKED_AT or room <= 0:
            break
        if job.model in loaded:
            seconds = order.cost(job)
            if seconds <= room and all(order.lead(job, one) <= leeway.near_s for one in before):
                return Turn(job, tuple(one.id for one in before), seconds)
        before.append(job)
        room = min(room, leeway.passed_s - passed_s.get(job.id, 0.0))
    return Turn(first)
