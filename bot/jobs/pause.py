"""The pause of a queue (nothing is started) and its drain (nothing new is accepted)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bot.rules.refusals import QueueDrained
from bot.words import mark
from storage import facts, jobs
from storage.database import Transaction

PAUSED: Final = "paused"
DRAINING: Final = "draining"
RESTARTED: Final = mark(
    "the bot was restarted while jobs waited; an admin goes on with /admin resume"
)
"""Why the queue is paused after a start with ON_RESTART=paused."""


@dataclass(frozen=True, slots=True)
class QueuePause:
    """Why nothing is started, and why nothing new is accepted; None where it is."""

    paused: str | None = None
    draining: str | None = None

    def require_open(self) -> None:
        """Raise `QueueDrained` while the queue is drained."""
        if self.draining is not None:
            raise QueueDrained(self.draining)


async def settle(tx: Transaction) -> QueuePause:
    """Return the stored pause; a drain that nothing is left of pauses the queue."""
    paused, draining = await facts.get_facts(tx, (PAUSED, DRAINING))
    if draining is not None and paused is None and not await jobs.any_open(tx):
        await facts.set_fact(tx, PAUSED, draining)
        paused = draining
    return QueuePause(paused, draining)


async def store(tx: Transaction, pause: QueuePause) -> None:
    """Keep a pause; it holds after a restart too."""
    await facts.set_fact(tx, PAUSED, pause.paused)
    await facts.set_fact(tx, DRAINING, pause.draining)
