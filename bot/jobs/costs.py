"""Costs: what jobs are expected to take of a graphics card, by the model that draws or writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from storage.jobs import Unfinished

# Seconds a unit of work while nothing was measured, for the order alone: it weighs jobs by size.
UNMEASURED_RATE: Final = 1.0
WORK_OF_TOKEN: Final = 0.1
"""Megapixel steps that a token counts as while no answer was measured: by the projection for one
consumer card an answer of 200 tokens takes about half of a picture's time (docs/writing.md)."""


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What one model's last jobs took, in seconds.

    `rate` is the median of a megapixel step, None if it never drew; `token_s` that of an expected
    token, None if it never wrote. `switch_s` is the median of an
    engine's switch to it from another model, None if that never happened. `share_s` is the mean of
    what a job of it spent on a switch, most of them nothing.
    """

    rate: float | None = None
    switch_s: float | None = None
    share_s: float = 0.0
    token_s: float | None = None

    def charge(self, work: float, tokens: float = 0.0) -> float:
        """Return the seconds that a limit counts for `work` megapixel steps and expected `tokens`.

        What is unmeasured counts 0.
        """
        return work * (self.rate or 0.0) + tokens * (self.token_s or 0.0) + self.share_s

    def expected(self, job: Unfinished, rate: float | None = None) -> float | None:
        """Return the seconds of a job without a switch, None where nothing is known of them.

        `rate` is that of the engine which draws it; None: as all together.
        """
        rate = self.rate if rate is None else rate
        token_s = self.token_s
        if token_s is None and rate is not None:
            token_s = WORK_OF_TOKEN * rate
        if (job.work and rate is None) or (job.tokens and token_s is None):
            return None
        return job.work * (rate or 0.0) + job.tokens * (token_s or 0.0)


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
        cost = self.of(job.model)
        if (known := cost.expected(job)) is not None:
            return known
        rates = [one.rate for one in self.models.values() if one.rate is not None]
        rate = max(rates, default=UNMEASURED_RATE) if cost.rate is None else cost.rate
        found = cost.expected(job, rate)
        assert found is not None
        return found
