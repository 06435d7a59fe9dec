"""`python -m bot run` with a plan: which pipeline draws, and where the process kills itself.

The plan is JSON in CRASH_PLAN (see `Plan`). Nothing of it is in the bot: this script replaces
parts of its modules and then calls the bot's own `main`.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bot.engine.lifeline import die_with_parent

TINY = "bot.engine.models.build:build"


@dataclass(frozen=True)
class Plan:
    """What is different from an ordinary run.

    The process dies just before or after (`die_after`) the commit number `die_at`, counted from 1
    over all commits, or over those called `die_in` only. `nonce_window_s` replaces the time for
    which the bot trusts Discord's memory of nonces, `sabotage` names ways to break the bot.
    """

    pipeline: str = "tests.crash.pipeline:build"
    die_at: int | None = None
    die_in: str | None = None
    die_after: bool = False
    nonce_window_s: float | None = None
    long_s: float | None = None
    sabotage: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        return {"CRASH_PLAN": json.dumps(asdict(self))}

    @classmethod
    def read(cls) -> Plan:
        values = json.loads(os.environ["CRASH_PLAN"])
        return cls(**{**values, "sabotage": tuple(values["sabotage"])})


def name_of(fn: Callable[..., Any]) -> str:
    """Name what a transaction does: `intend`, `delivered`, `submit`, `record_generated`, `claim` …"""
    while isinstance(fn, functools.partial):
        fn = fn.func
    inner = inspect.getclosurevars(fn).nonlocals.get("fn") if inspect.isfunction(fn) else None
    if inner is not None:
        return name_of(inner)
    return fn.__qualname__.partition(".<locals>")[0].rpartition(".")[2]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def watch_commits(plan: Plan) -> None:
    """Write the name of each commit to stdout once it is done, and die at the planned one."""
    from storage import database

    transact = database._transact
    counts: Counter[str] = Counter()

    def pass_by(name: str, *, after: bool) -> None:
        here = plan.die_in in (None, name) and plan.die_at == counts[name if plan.die_in else ""]
        if here and after == plan.die_after:
            die()

    async def watched(connection, begin, fn):
        if begin != "BEGIN IMMEDIATE":
            return await transact(connection, begin, fn)
        name = name_of(fn)
        counts.update({"": 1, name: 1})

        async def body(tx):
            result = await fn(tx)
            pass_by(name, after=False)
            return result

        result = await transact(connection, begin, body)
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
        pass_by(name, after=True)
        return result

    database._transact = watched


def sabotage(faults: tuple[str, ...]) -> None:
    """Break the bot on purpose: what finds faults must find these."""
    if "repeats" in faults:
        _send_blindly()
    if "recovery" in faults:
        _forget_running_jobs()
    if "outbox" in faults:
        _record_before_sending()
    if "removal" in faults:
        _leave_waiting_messages()


def _send_blindly() -> None:
    """Neither mark new messages with a nonce nor look for earlier ones."""
    from discord import PartialMessageable
    from discord.abc import Messageable

    from bot.delivery import ladder

    send = Messageable.send

    async def unmarked(self, *args, **options):
        return await send(self, *args, **{**options, "nonce": None})

    async def nothing(*args):
        return None

    PartialMessageable.send = Messageable.send = unmarked
    ladder.find_answer = nothing


def _forget_running_jobs() -> None:
    from bot.jobs import outcomes

    async def forget(tx, now):
        return outcomes.Recovery()

    outcomes.recover = forget


def _record_before_sending() -> None:
    from storage import deliveries

    intend = deliveries.intend

    async def too_early(tx, job_id, **values):
        intent_at = await intend(tx, job_id=job_id, **values)
        await deliveries.delivered(tx, job_id, now=values["now"], channel_id=None, message_id=None)
        return intent_at

    deliveries.intend = too_early


def _leave_waiting_messages() -> None:
    from bot.delivery.ladder import Ladder

    async def nothing(self, delivery):
        return None

    Ladder.remove = nothing


def main() -> int:
    plan = Plan.read()
    # A test run that is killed itself leaves no bot behind.
    die_with_parent(os.getppid())
    import bot.app.engines
    from bot.cli.main import main as bot_main
    from bot.delivery import ladder, notice

    bot.app.engines.EngineOptions = functools.partial(
        bot.app.engines.EngineOptions, pipeline=plan.pipeline
    )
    if plan.nonce_window_s is not None:
        ladder.NONCE_WINDOW_S = plan.nonce_window_s
    if plan.long_s is not None:
        notice.LONG_S = plan.long_s
    watch_commits(plan)
    sabotage(plan.sabotage)
    return bot_main(["run"])


if __name__ == "__main__":
    sys.exit(main())
