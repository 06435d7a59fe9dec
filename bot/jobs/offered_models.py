"""The names of the offered models, by which jobs are shown and told from those of earlier days."""

from __future__ import annotations

from dataclasses import dataclass

from bot.catalogue.offered import short_name
from bot.domain.job import Job


@dataclass(frozen=True, slots=True)
class OfferedModels:
    """Full names of models; the first is the configured one, which draws jobs that name none."""

    names: tuple[str, ...]

    @property
    def several(self) -> bool:
        """Whether users can choose."""
        return len(self.names) > 1

    def of(self, job: Job) -> str:
        """Return what draws a job, or drew it."""
        return job.model or self.names[0]

    def shown(self, job: Job) -> str:
        """Return the short name of a job's model; "" for the one that there is alone."""
        model = self.of(job)
        return short_name(model) if self.several or model != self.names[0] else ""
