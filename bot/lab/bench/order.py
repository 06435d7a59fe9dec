"""Long queues: what a submission, a claim and an end cost at several lengths of the queue."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from bot.domain.job import Job, Origin, Target
from bot.domain.request import ImageRequest
from bot.jobs.queue import JobQueue
from bot.rules.limits import Limits
from storage.database import Database

# Jobs that wait, and jobs that ended within the hour that the fair order looks at.
_LENGTHS: Final = ((0, 0), (100, 3_500), (500, 3_500), (500, 20_000), (5_000, 20_000))
_USERS: Final = 10_000
_SERVERS: Final = 300
_TIMES: Final = 20
# 7919 shares no factor with either: users and servers come in no order. The square makes the first
# servers come far more often.
_SERVED: Final = """
WITH RECURSIVE numbers (n) AS (
    SELECT 1 WHERE ?1 > 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1
)
INSERT INTO usage (job_id, user_id, guild_id, charged_at, images, gpu_seconds, served_at)
SELECT 'served-' || n, 1 + n * 7919 % ?2, 1 + (n * 7919 % ?3) * (n * 7919 % ?3) / ?3, ?4, 1, 60, ?4
FROM numbers
"""


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
        limits = Limits(10_000, images_per_day=1_000_000, queue_size=1_000_000)
        queue = JobQueue(database, limits, model="bench")

        async def submit() -> None:
            user, server = of.randint(1, _USERS), 1 + int(_SERVERS * of.random() ** 2)
            origin = Origin(f"s{next(numbers)}", Target.HTTP, user, "someone", guild_id=server)
            await queue.submit(ImageRequest("a lighthouse", seed=1), origin)

        claimed: list[Job] = []

        async def claim() -> None:
            claimed.append(await queue.get())

        async def end() -> None:
            timings = {"denoise": 60.0, "total": 60.0}
            await queue.commits.record_generated(claimed.pop(), [], timings, None, "bench")

        for _ in range(waiting):
            await submit()
        params = (served, _USERS, _SERVERS, time.time())
        await database.write(lambda tx: tx.execute(_SERVED, params))
        return {
            "waiting": waiting,
            "served_in_an_hour": served,
            "submit_cpu_ms": await _timed(submit),
            "claim_cpu_ms": await _timed(claim),
            "end_cpu_ms": await _timed(end),
        }
    finally:
        await database.close()


async def _timed(step: Callable[[], Awaitable[None]]) -> float:
    began = time.process_time()
    for _ in range(_TIMES):
        await step()
    return round(1000 * (time.process_time() - began) / _TIMES, 2)
