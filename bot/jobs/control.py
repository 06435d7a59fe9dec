"""The queue's controls: paused, drained, or held for as long as something stands in the way."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from bot.jobs import pause
from bot.jobs.commits import Commits
from bot.jobs.pause import QueuePause
from storage import audit
from storage.database import Transaction

log = logging.getLogger(__name__)


class QueueControl:
    """Says whether jobs are started and accepted, and lets admins and workers change that."""

    def __init__(self, commits: Commits, *, clock: Callable[[], float] = time.time) -> None:
        self.closed = False
        """Whether the process ends: nothing new is taken, and nothing new started."""
        self._commits = commits
        self._clock = clock
        self._held: dict[object, str] = {}

    @property
    def paused(self) -> str | None:
        """Why no job is started at present, or None."""
        if self._commits.pause.paused is not None:
            return self._commits.pause.paused
        return next(iter(self._held.values()), None)

    @property
    def draining(self) -> str | None:
        """Why no new job is accepted at present, or None."""
        return self._commits.pause.draining

    async def pause(self, reason: str, *, by: int, guild_id: int | None = None) -> None:
        """Start no more jobs until `resume`, also after a restart; running ones go on."""
        await self._set(lambda old: replace(old, paused=reason), "pause", reason, by, guild_id)

    async def drain(self, reason: str, *, by: int, guild_id: int | None = None) -> None:
        """Accept no more jobs until `resume`, end those there are, then pause; ends a pause."""
        await self._set(lambda _old: QueuePause(None, reason), "drain", reason, by, guild_id)

    async def resume(self, *, by: int, guild_id: int | None = None) -> None:
        """End the pause and the drain."""
        await self._set(lambda _old: QueuePause(), "resume", None, by, guild_id)

    def hold(self, holder: object, reason: str | None) -> None:
        """Start nothing for `reason` until the same holder gives None, and each other one too.

        Unlike a pause, a restart forgets it.
        """
        if reason is not None:
            self._held[holder] = reason
        elif self._held.pop(holder, None) is None:
            return
        self._commits.wake()

    async def _set(
        self,
        changed: Callable[[QueuePause], QueuePause],
        action: str,
        reason: str | None,
        by: int,
        guild_id: int | None,
    ) -> None:
        async def store(tx: Transaction) -> None:
            await pause.store(tx, changed(await pause.settle(tx)))
            await audit.record(
                tx, self._clock(), actor_id=by, guild_id=guild_id, action=action, detail=reason
            )

        def told(_done: None) -> None:
            log.info("%s by %d", action, by)

        await self._commits.change(store, told, first=True)
