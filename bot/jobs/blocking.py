"""Blocks: users who may not ask; what they had waiting is dropped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from bot.jobs import outcomes
from bot.jobs.queue import JobQueue
from bot.rules.blocked import require_unblocked
from bot.words import mark
from storage import audit, blocks, jobs
from storage.blocks import EVERYWHERE, Block
from storage.database import Database, Transaction

log = logging.getLogger(__name__)

__all__ = ["EVERYWHERE", "Block", "Blocks"]


class Blocks:
    """Blocks users, and drops what they have waiting."""

    def __init__(
        self, database: Database, queue: JobQueue, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._queue = queue
        self._clock = clock

    async def block(
        self, user_id: int, guild_id: int, *, by: int, seconds: float | None, reason: str
    ) -> int:
        """Block a user in a server (0: everywhere); return how many waiting jobs were dropped."""
        now = self._clock()
        until = None if seconds is None else now + seconds

        async def block(tx: Transaction) -> list[str]:
            await blocks.put(tx, Block(user_id, guild_id, now, until, reason, by))
            job_ids = await blocks.waiting_jobs(tx, user_id, guild_id)
            for job_id in job_ids:
                sentence = mark("you were blocked.")
                await jobs.set_error(tx, job_id, "blocked", sentence, f"blocked by {by}")
                await outcomes.end_cancelled(tx, job_id, now)
            await audit.record(
                tx,
                now,
                actor_id=by,
                guild_id=guild_id or None,
                action="block",
                target=str(user_id),
                detail=reason,
            )
            return job_ids

        dropped = await self._queue.ending(block)
        log.info("user %d blocked by %d (server %d)", user_id, by, guild_id)
        return len(dropped)

    async def require_unblocked(self, user_id: int, guild_id: int | None) -> None:
        """Raise `NotAllowed` for a blocked user, with the reason and the end."""
        now = self._clock()
        await self._database.read(lambda tx: require_unblocked(tx, user_id, guild_id, now))

    async def unblock(self, user_id: int, guild_id: int, *, by: int) -> bool:
        """End a user's block in a server (0: everywhere); False if there was none."""
        now = self._clock()

        async def unblock(tx: Transaction) -> bool:
            removed = await blocks.remove(tx, user_id, guild_id)
            if removed:
                await audit.record(
                    tx,
                    now,
                    actor_id=by,
                    guild_id=guild_id or None,
                    action="unblock",
                    target=str(user_id),
                )
            return removed

        return await self._database.write(unblock)

    async def listed(self, guild_id: int) -> list[Block]:
        """Return the blocks that hold in a server (0: everywhere), newest first."""
        return await self._database.read(lambda tx: blocks.listed(tx, guild_id, self._clock()))
