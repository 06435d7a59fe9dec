"""Workers side by side: each job is drawn by one of them."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.jobs.kit import make_origin, make_request


async def test_eight_workers_claim_each_of_fifty_jobs_once(queue):
    made = [
        (await queue.submit(make_request(), make_origin(user_id=number % 7))).job.id
        for number in range(50)
    ]
    claimed: list[str] = []
    all_claimed = asyncio.Event()

    async def work() -> None:
        while True:
            claimed.append((await queue.get()).id)
            if len(claimed) >= len(made):
                all_claimed.set()

    workers = [asyncio.create_task(work()) for _ in range(8)]
    async with asyncio.timeout(30):
        await all_claimed.wait()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert Counter(claimed) == Counter(made)
