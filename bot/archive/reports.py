"""Reports of pictures to a server's moderators: one a user and job, a few a user and hour."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from bot.errors import InvalidRequest, LimitReached
from bot.rules.blocked import require_unblocked
from bot.words import _
from storage import reports
from storage.database import Database, Transaction
from storage.reports import Report

log = logging.getLogger(__name__)

__all__ = ["REASON_LIMIT", "Report", "Reports"]

REASON_LIMIT: Final = 300
MOST_AN_HOUR: Final = 5
_HOUR_S: Final = 3600.0
# A report whose message never came, since the bot died in between, may be made again after this.
_UNFILED_S: Final = 60.0


class Reports:
    """What users report."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def now(self) -> float:
        """Return the Unix time in seconds."""
        return self._clock()

    async def add(self, report: Report) -> list[Report]:
        """Commit a report; return all reports of its job, oldest first.

        Raises `NotAllowed` for a blocked user, `InvalidRequest` for a second report of a job, and
        `LimitReached`.
        """

        async def add(tx: Transaction) -> list[Report]:
            await require_unblocked(tx, report.reporter_id, report.guild_id, report.at)
            for other in await reports.of_job(tx, report.job_id):
                late = other.filed_message_id is None and other.at < report.at - _UNFILED_S
                if other.reporter_id == report.reporter_id and not late:
                    raise InvalidRequest(_("You have reported this picture already."))
            since = report.at - _HOUR_S
            if await reports.count_since(tx, report.reporter_id, since) >= MOST_AN_HOUR:
                raise LimitReached(
                    _("You have reached the limit for reports. Please try again in an hour.")
                )
            await reports.add(tx, report)
            return await reports.of_job(tx, report.job_id)

        found = await self._database.write(add)
        log.info("job %s was reported by %d", report.job_id, report.reporter_id)
        return found

    async def filed(self, job_id: str, channel_id: int, message_id: int) -> None:
        """Remember the moderators' message about a job."""
        await self._database.write(
            partial(reports.filed, job_id=job_id, channel_id=channel_id, message_id=message_id)
        )

    async def take_back(self, report: Report) -> None:
        """Forget a report that reached nobody."""
        await self._database.write(
            partial(reports.remove, job_id=report.job_id, reporter_id=report.reporter_id)
        )

    async def of_job(self, job_id: str) -> Sequence[Report]:
        """Return the reports of a job, oldest first."""
        return await self._database.read(partial(reports.of_job, job_id=job_id))
