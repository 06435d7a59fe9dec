"""Lineage: the steps that led to a picture, and the families of a user's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from bot.domain.job import Job
from storage import lineage
from storage.database import Database
from storage.lineage import StepBefore

__all__ = ["FAMILY_MOST", "StepBefore", "families", "steps_before"]

FAMILY_MOST: Final = 12
"""How many of a family's pictures are shown at once."""


async def steps_before(database: Database, job: Job) -> list[StepBefore]:
    """Return what a job was made from, step by step, the nearest first."""
    return await database.read(partial(lineage.before, job=job))


async def families(database: Database, user_id: int, jobs: Sequence[Job]) -> list[list[Job]]:
    """Return the families of some of a user's jobs, each oldest first, without those of one."""
    job_ids = [job.id for job in jobs]
    return await database.read(
        partial(lineage.family, user_id=user_id, limit=FAMILY_MOST, job_ids=job_ids)
    )
