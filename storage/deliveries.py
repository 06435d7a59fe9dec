"""The outbox: where each answer goes, and how far it came."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from bot.domain.job import DeliveryState, Target
from storage.clock import LONGEST_PAUSE_S
from storage.database import Transaction

_COLUMNS: Final = """
    d.job_id, d.state, j.source_id, j.target, j.user_id, j.private, d.application_id, d.token,
    d.token_expires_at, d.bot_in_channel, d.channel_id, d.message_id, d.attempts,
    d.next_attempt_at, d.rung, d.intent_at, d.delivered_at, d.sent_channel_id, d.sent_message_id,
    d.error, d.layout, d.remove_at, j.created_at
"""
_SELECT: Final = f"SELECT {_COLUMNS} FROM deliveries AS d JOIN jobs AS j ON j.id = d.job_id"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row of `deliveries` with what it needs of its job. Times are Unix seconds."""

    job_id: str
    state: DeliveryState
    source_id: str
    target: Target
    user_id: int
    private: bool
    application_id: int | None
    token: str | None = field(repr=False)
    token_expires_at: float | None
    bot_in_channel: bool
    channel_id: int | None
    message_id: int | None
    attempts: int
    next_attempt_at: float
    rung: str | None
    intent_at: float | None
    delivered_at: float | None
    sent_channel_id: int | None
    sent_message_id: int | None
    error: str | None
    layout: bool
    """Whether its message is one of layout components, which an embed cannot take the place of."""
    remove_at: float | None
    created_at: float

    @property
    def public(self) -> bool:
        """Whether the bot itself may use the channel: it is there, the answer not private."""
        return self.bot_in_channel and not (self.private and self.target == Target.INTERACTION)


def _delivery(row: sqlite3.Row) -> Delivery:
    values = dict(row)
    values["state"] = DeliveryState(values["state"])
    values["target"] = Target(values["target"])
    values["private"] = bool(values["private"])
    values["bot_in_channel"] = bool(values["bot_in_channel"])
    values["layout"] = bool(values["layout"])
    return Delivery(**values)


def noted(trail: str | None, way: str, reason: str) -> str:
    """Return `trail`, which holds the last failure of each way, with one more."""
    entries = (trail or "").split("; ")
    others = [entry for entry in entries if entry and not entry.startswith(f"{way}: ")]
    return "; ".join([*others, f"{way}: {reason}"])


async def get(tx: Transaction, job_id: str) -> Delivery | None:
    """Return the delivery of a job."""
    row = await tx.one(f"{_SELECT} WHERE d.job_id = ?", (job_id,))
    return _delivery(row) if row else None


@dataclass(frozen=True, slots=True)
class Due:
    """What the courier has to do now (`due`), and when something else comes up (Unix seconds)."""

    due: list[Delivery]
    next_due_at: float | None
    next_expiry_at: float | None


async def outlook(tx: Transaction, now: float, limit: int, busy: Collection[str] = ()) -> Due:
    """Return up to `limit` answers to send that are not `busy`, the longest due first.

    What is due later than any pause may last is due now: the clock was ahead then.
    """
    latest = now + LONGEST_PAUSE_S
    skip = json.dumps(list(busy))
    rows = await tx.all(
        f"{_SELECT} WHERE d.state IN ('pending', 'sending')"
        " AND (d.next_attempt_at <= ?1 OR d.next_attempt_at > ?2)"
        " AND d.job_id NOT IN (SELECT value FROM json_each(?3))"
        " ORDER BY d.next_attempt_at LIMIT ?4",
        (now, latest, skip, limit),
    )
    next_due_at = await tx.value(
        "SELECT min(next_attempt_at) FROM deliveries WHERE state IN ('pending', 'sending')"
        " AND next_attempt_at > ?1 AND next_attempt_at <= ?2"
        " AND job_id NOT IN (SELECT value FROM json_each(?3))",
        (now, latest, skip),
    )
    next_expiry_at = await tx.value(
        "SELECT min(token_expires_at) FROM deliveries WHERE token IS NOT NULL"
    )
    return Due([_delivery(row) for row in rows], next_due_at, next_expiry_at)


async def set_message(
    tx: Transaction, job_id: str, channel_id: int | None, message_id: int
) -> None:
    """Remember the message that shows the job, once Discord has told its id."""
    await tx.execute(
        "UPDATE deliveries SET message_id = ?, channel_id = coalesce(?, channel_id)"
        " WHERE job_id = ?",
        (message_id, channel_id, job_id),
    )


async def intend(
    tx: Transaction, job_id: str, rung: str, now: float, error: str | None = None
) -> float | None:
    """Record the intent to send by `rung`; return when that rung was first intended.

    None where there is nothing to send any more: a client may have fetched the answer meanwhile.
    `error` is why the ways before were closed; it stays with the row when the answer is delivered.
    The first intent's time stays while the rung is the same: an attempt with an unknown outcome
    may have reached Discord then.
    """
    return await tx.value(
        "UPDATE deliveries SET state = 'sending', attempts = attempts + 1,"
        " intent_at = CASE WHEN rung = ?1 THEN coalesce(intent_at, ?2) ELSE ?2 END, rung = ?1,"
        " error = ?4 WHERE job_id = ?3 AND state IN ('pending', 'sending') RETURNING intent_at",
        (rung, now, job_id, error),
    )


async def delivered(
    tx: Transaction,
    job_id: str,
    now: float,
    channel_id: int | None,
    message_id: int | None,
    *,
    remove: bool = False,
) -> bool:
    """Record that the answer is visible, and forget the token.

    `remove`: the message that waited is to be removed, whatever the clock shows. Return False where
    the job was deleted meanwhile: whoever did that did not know of the answer's message.
    """
    await tx.execute(
        "UPDATE deliveries SET state = 'delivered', delivered_at = ?1, sent_channel_id = ?2,"
        " sent_message_id = ?3, token = NULL, remove_at = CASE WHEN ?4 THEN 0.0 END"
        " WHERE job_id = ?5 AND state = 'sending'",
        (now, channel_id, message_id, remove, job_id),
    )
    job = await tx.one("SELECT deleted_at FROM jobs WHERE id = ?", (job_id,))
    return job is not None and job["deleted_at"] is None


async def removals(tx: Transaction, now: float, limit: int) -> tuple[list[Delivery], float | None]:
    """Return up to `limit` deliveries whose waiting message is to go now, and when others are.

    As in `outlook`, what is due later than any pause may last is due now.
    """
    latest = now + LONGEST_PAUSE_S
    rows = await tx.all(
        f"{_SELECT} WHERE d.remove_at IS NOT NULL AND (d.remove_at <= ?1 OR d.remove_at > ?2)"
        " ORDER BY d.remove_at LIMIT ?3",
        (now, latest, limit),
    )
    next_at = await tx.value(
        "SELECT min(remove_at) FROM deliveries WHERE remove_at > ?1 AND remove_at <= ?2",
        (now, latest),
    )
    return [_delivery(row) for row in rows], next_at


async def remove_later(tx: Transaction, job_id: str, at: float) -> None:
    """Put off the removal of a waiting message."""
    await tx.execute("UPDATE deliveries SET remove_at = ? WHERE job_id = ?", (at, job_id))


async def removed(tx: Transaction, job_id: str) -> None:
    """Record that nothing is left to be removed."""
    await tx.execute("UPDATE deliveries SET remove_at = NULL WHERE job_id = ?", (job_id,))


async def retry(
    tx: Transaction, job_id: str, next_attempt_at: float, error: str, *, attempts: int = 0
) -> None:
    """Put the answer back for a later attempt, counting `attempts` that `intend` did not see."""
    await tx.execute(
        "UPDATE deliveries SET state = 'pending', next_attempt_at = ?, error = ?,"
        " attempts = attempts + ? WHERE job_id = ? AND state IN ('pending', 'sending')",
        (next_attempt_at, error, attempts, job_id),
    )


async def undeliverable(tx: Transaction, job_id: str, error: str | None) -> None:
    """Keep the answer for the user to fetch, and forget the token."""
    await tx.execute(
        "UPDATE deliveries SET state = 'undeliverable', rung = 'kept', token = NULL, error = ?,"
        " kept_for = (SELECT user_id FROM jobs WHERE id = job_id"
        " AND target IN ('interaction', 'message'))"
        " WHERE job_id = ? AND state = 'sending'",
        (error, job_id),
    )


async def kept_for(tx: Transaction, user_id: int, limit: int = 10) -> list[str]:
    """Return the jobs of a user whose answers wait to be fetched, newest first."""
    rows = await tx.all(
        # The ids begin with the time.
        "SELECT job_id FROM deliveries WHERE state = 'undeliverable' AND kept_for = ?"
        " AND (SELECT deleted_at FROM jobs WHERE id = job_id) IS NULL"
        " ORDER BY job_id DESC LIMIT ?",
        (user_id, limit),
    )
    return [row["job_id"] for row in rows]


async def fetched(tx: Transaction, job_id: str, now: float) -> None:
    """Record that a kept answer was fetched."""
    await tx.execute(
        "UPDATE deliveries SET state = 'delivered', delivered_at = ?"
        " WHERE job_id = ? AND state = 'undeliverable'",
        (now, job_id),
    )


async def forget_expired_tokens(tx: Transaction, now: float) -> int:
    """Blank the tokens that no longer open anything; return how many."""
    return await tx.execute(
        "UPDATE deliveries SET token = NULL WHERE token IS NOT NULL AND token_expires_at <= ?",
        (now,),
    )


async def taken(tx: Transaction, job_id: str, now: float) -> None:
    """Record that an HTTP client fetched the answer, which nobody has to send any more."""
    # As the table of transitions demands: by way of the intent.
    await tx.execute(
        "UPDATE deliveries SET state = 'sending', rung = 'kept' WHERE job_id = ?"
        " AND state = 'pending'",
        (job_id,),
    )
    await tx.execute(
        "UPDATE deliveries SET state = 'delivered', delivered_at = ?, rung = 'kept', token = NULL"
        " WHERE job_id = ? AND state IN ('sending', 'undeliverable')",
        (now, job_id),
    )
