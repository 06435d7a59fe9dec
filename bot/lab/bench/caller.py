"""Client of `bench http`, in a process of its own.

It prints its result as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any, Final

import aiohttp

_PATIENCE_S: Final = 600.0


async def _call(url: str, count: int) -> dict[str, Any]:
    """Ask for `count` pictures, one after the other; return each call's seconds and job.

    As many more are only accepted (`async=true`), and drawn before the next one is asked for.
    """
    waited: list[tuple[float, str]] = []
    accepted: list[float] = []
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
    async with aiohttp.ClientSession(url, timeout=timeout, raise_for_status=True) as session:

        async def ask(path: str, seed: int) -> tuple[float, str]:
            body = {"prompt": "a red house beside a lake", "seed": seed}
            began = time.perf_counter()
            async with session.post(path, json=body) as answer:
                await answer.read()
                return time.perf_counter() - began, answer.headers["X-Job-Id"]

        async def ended(job_id: str) -> None:
            async with session.get(f"/api/v1/jobs/{job_id}/events") as answer:
                await answer.read()

        await ask("/api/v1/images/generate", 0)  # loads the model
        for seed in range(count):
            waited.append(await ask("/api/v1/images/generate", seed))
            seconds, job_id = await ask("/api/v1/images/generate?async=true", seed)
            accepted.append(seconds)
            await ended(job_id)
    return {"waited": waited, "accepted": accepted}


def main() -> None:
    """Run one client."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    result = asyncio.run(_call(options.url, options.count))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
