"""What would be refused whatever was asked for, found out before any work is done for it."""

from __future__ import annotations

import time
from collections.abc import Callable

from bot.domain.job import Origin
from bot.jobs.admission import channel_settings
from bot.jobs.commits import Commits
from bot.jobs.control import QueueControl
from bot.rules import limits as limits_
from bot.rules.blocked import require_unblocked
from bot.rules.limits import Limits
from bot.rules.refusals import ShuttingDown
from bot.rules.server_limits import ServerLimits
from storage.database import Database, Transaction
from storage.usage import Charge


class Precheck:
    """Asks blocks, channels and limits beside the writer's line; it promises nothing."""

    def __init__(
        self,
        database: Database,
        limits: Limits,
        commits: Commits,
        control: QueueControl,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._limits = limits
        self._commits = commits
        self._control = control
        self._clock = clock

    async def require(self, origin: Origin) -> None:
        """Raise the `Refusal` that the smallest request from `origin` would meet now."""
        if self._control.closed:
            raise ShuttingDown
        self._commits.pause.require_open()

        async def ask(tx: Transaction) -> None:
            now = self._clock()
            own = ServerLimits.read(await channel_settings(tx, origin))
            await require_unblocked(tx, origin.user_id, origin.guild_id, now)
            await limits_.check(tx, self._limits, own, origin, Charge(now, 1, 0.0))

        await self._database.read(ask)
