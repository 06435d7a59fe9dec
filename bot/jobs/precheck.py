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
from bot.rules.prompt_rules import breaks_rule
from bot.rules.refusals import ShuttingDown
from bot.rules.server_edits import rules_of
from bot.rules.server_limits import ServerLimits
from storage import people
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

    async def require(self, origin: Origin, *, pictures: int = 1) -> None:
        """Raise the `Refusal` that the smallest request from `origin` would meet now.

        `pictures` is how many that draws: 0 where a prompt is rewritten and shown first.
        """
        if self._control.closed:
            raise ShuttingDown
        self._commits.pause.require_open()

        async def ask(tx: Transaction) -> None:
            now = self._clock()
            own = ServerLimits.read(await channel_settings(tx, origin))
            await require_unblocked(tx, origin.user_id, origin.guild_id, now)
            await limits_.check(tx, self._limits, own, origin, Charge(now, pictures, 0.0))

        await self._database.read(ask)

    async def breaks_rule(self, guild_id: int | None, text: str) -> bool:
        """Tell whether what was written breaks a rule that a server has for prompts."""
        if guild_id is None:
            return False
        values = await self._database.read(lambda tx: people.get(tx, "guilds", guild_id))
        return await breaks_rule(rules_of(values), text)
