"""Costs: what jobs are expected to take of a graphics card, by the model that draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from storage.jobs import Unfinished

# Seconds a unit of work while nothing was measured, for the order alone: it weighs jobs by size.
UNMEASURED_RATE: Final = 1.0


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What one model's last jobs took, in seconds.

    `rate` is the median of a megapixel step, None if it never drew. `switch_s` is the median of an
    engine's switch to it from another model, None if that never happened. `share_s` is the mean of
    what a job of it spent on a switch, most of them nothing.
    """

    rate: float | None = None
    switch_s: float | None = None
    share_s: float = 0.0

    def charge(self, work: float) -> float:
        """Return the seconds that a limit counts for `work` megapixel steps; 0 where unmeasured."""
        return work * (self.rate or 0.0) + self.share_s


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of several models, by name."""

    models: Mapping[str, ModelCost] = field(default_factory=dict[str, ModelCost])

    def of(self, model: str) -> ModelCost:
        """Return what is known of a model."""
        return self.models.get(model, ModelCost())

    def seconds(self, job: Unfinished) -> float:
        """Return what the order counts a job at, without a switch.

        A model that never drew counts like the slowest of the others.
        """
        rate = self.of(job.model).rate
        if rate is None:
            known = [cost.rate for cost in self.models.values() if cost.rate is not None]
            rate = max(known, default=UNMEASURED_RATE)
        return job.work * rate
