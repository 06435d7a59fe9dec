"""What a long queue costs: a submission, a claim and an end, at several lengths of the queue."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from bot.jobs.limits import Limits
from bot.jobs.model import Job, Origin, Target
from bot.jobs.queue import JobQueue
from bot.jobs.request import ImageRequest
from storage.database import Database, Transaction

# Jobs that wait, and jobs that ended within the hour that the fair order looks at.
_LENGTHS: Final = ((0, 0), (100, 3_500), (500, 3_500), (500, 20_000))
_USERS: Final = 10_000
_SERVERS: Final = 300
_TIMES: Final = 20
_SERVED: Final = (
    "INSERT INTO usage (job_id, user_id, guild_id, charged_at, images, gpu_seconds, served_at)"
    " VALUES (?1, ?2, ?3, ?4, 1, 60, ?4)"
)


async def order_costs(folder: Path) -> list[dict[str, Any]]:
    """Return the CPU milliseconds of each step at each length, on databases in `folder`."""
    return [
        await _costs(folder / f"order-{number}.sqlite3", waiting, served)
        for number, (waiting, served) in enumerate(_LENGTHS)
    ]


async def _costs(path: Path, waiting: int, served: int) -> dict[str, Any]:
    of, numbers = random.Random(1), itertools.count(1)  # noqa: S311 - nothing secret
    database = await Database.open(path)
    try:
        limits = Limits(images_per_day=1_000_000, queue_size=1_000_000)
        queue = JobQueue(database, limits, model="bench")
        now = time.time()

        async def fill(tx: Transaction) -> None:
            for number in range(served):
                await tx.execute(_SERVED, (f"served-{number}", _user(of), _server(of), now))

        async def submit() -> None:
            origin = Origin(
                f"s{next(numbers)}", Target.HTTP, _user(of), "someone", guild_id=_server(of)
            )
            await queue.submit(ImageRequest("a lighthouse", seed=1), origin)

        claimed: list[Job] = []

        async def claim() -> None:
            claimed.append(await queue.get())

        async def end() -> None:
            timings = {"denoise": 60.0, "total": 60.0}
            await queue.record_generated(claimed.pop(), [], timings, None, "bench")

        await database.write(fill)
        for _ in range(waiting):
            await submit()
        return {
            "waiting": waiting,
            "served_in_an_hour": served,
            "submit_cpu_ms": await _timed(submit),
            "claim_cpu_ms": await _timed(claim),
            "end_cpu_ms": await _timed(end),
        }
    finally:
        await database.close()


def _user(of: random.Random) -> int:
    return of.randint(1, _USERS)


def _server(of: random.Random) -> int:
    """Return a server; the first ones are asked in far more than the last ones."""
    return 1 + int(_SERVERS * of.random() ** 2)


async def _timed(step: Callable[[], Awaitable[None]]) -> float:
    began = time.process_time()
    for _ in range(_TIMES):
        await step()
    return round(1000 * (time.process_time() - began) / _TIMES, 2)
