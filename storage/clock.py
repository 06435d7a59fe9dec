"""The machine's clock, which may be wrong: what it has shown is kept, and stamps are put right.

A clock may start hours ahead (another system on the same disk), years back (an empty battery), and
be corrected while the bot runs. Two things follow. Nothing is deleted for its age by a time that
has not held for a day. And no stamp of ours may lie ahead of the present, or whoever waits for it
would wait for as long as the clock was wrong.
"""

from __future__ import annotations

import json
from typing import Any, Final, cast

from storage import facts
from storage.database import Transaction

DAY_S: Final = 86_400.0
AHEAD_S: Final = 60.0
"""How far a stamp may lie ahead and still count: clocks are put back by moments all the time."""
LONGEST_PAUSE_S: Final = 3600.0
"""The longest that an answer is put off; the courier keeps to it."""
TOKEN_S: Final = 900.0
"""How long Discord takes an interaction's token (docs.discord.com, "Receiving and Responding")."""

_SEEN: Final = "clock_seen"
_STEP_S: Final = 3600.0
"""What is kept of the last day: about one time an hour."""


async def held_time(tx: Transaction, now: float) -> float | None:
    """Return a time of about a day ago that the clock went on from, in Unix seconds.

    `now` is remembered. What is deleted for its age is judged by the time returned, which a leap
    of the clock moves only once the clock has stayed there for a day. None: the clock has not been
    watched for a day yet. To be called about once an hour.
    """
    # Times ahead of now were wrong, or now is; in both cases they hold no longer.
    seen = [time for time in await _seen(tx) if time <= now]
    older = [time for time in seen if time <= now - DAY_S]
    kept = [*older[-1:], *(time for time in seen if time > now - DAY_S)]
    if not kept or now - kept[-1] >= _STEP_S or kept == older[-1:]:
        kept.append(now)
    await facts.set_fact(tx, _SEEN, json.dumps(kept))
    return older[-1] if older else None


async def _seen(tx: Transaction) -> list[float]:
    try:
        values: Any = json.loads(await facts.get_fact(tx, _SEEN) or "[]")
    except ValueError:
        return []
    if not isinstance(values, list):
        return []
    numbers = cast("list[Any]", values)
    return sorted(float(value) for value in numbers if isinstance(value, int | float))


# None of these stamps lies ahead of :now afterwards. A pause, a token and a block are as long from
# now on as they were meant to be.
_PUT_RIGHT: Final = (
    """UPDATE deliveries SET next_attempt_at = :now
    WHERE state IN ('pending', 'sending') AND next_attempt_at > :now + :pause""",
    """UPDATE deliveries SET token_expires_at = :now + :token
    WHERE token IS NOT NULL AND token_expires_at > :now + :token + :ahead""",
    "UPDATE deliveries SET remove_at = :now WHERE remove_at > :now + :pause",
    "UPDATE form_states SET expires_at = :now + :day WHERE expires_at > :now + :day + :ahead",
    "UPDATE blocks SET until = until - at + :now, at = :now WHERE at > :now + :ahead",
    "UPDATE usage SET charged_at = :now WHERE charged_at > :now + :ahead",
    "UPDATE usage SET served_at = :now WHERE served_at > :now + :ahead",
    "UPDATE jobs SET created_at = :now WHERE created_at > :now + :ahead",
    "UPDATE jobs SET finished_at = :now WHERE finished_at > :now + :ahead",
    "UPDATE reports SET at = :now WHERE at > :now + :ahead",
)
# What waits for a time that is near, by a clock that has just been set.
_MOVE_WAITS: Final = (
    """UPDATE deliveries SET next_attempt_at = next_attempt_at + :seconds
    WHERE state IN ('pending', 'sending')""",
    "UPDATE deliveries SET token_expires_at = token_expires_at + :seconds WHERE token IS NOT NULL",
    "UPDATE deliveries SET remove_at = remove_at + :seconds WHERE remove_at IS NOT NULL",
)


async def put_stamps_right(tx: Transaction, now: float) -> int:
    """Bring the stamps back that lie ahead of `now`; return how many did."""
    params = {"now": now, "pause": LONGEST_PAUSE_S, "token": TOKEN_S, "ahead": AHEAD_S}
    params["day"] = DAY_S
    return sum([await tx.execute(sql, params) for sql in _PUT_RIGHT])


async def move_waits(tx: Transaction, seconds: float) -> None:
    """Keep the pauses of answers, and their tokens, as long as they were when the clock was set."""
    for sql in _MOVE_WAITS:
        await tx.execute(sql, {"seconds": seconds})
