"""Client of `bench http --load`, in a process of its own: streams that wait, and even requests.

It writes JSON lines: `waiting` once the streams are open, and the result after a line on stdin.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any, Final

import aiohttp

_BODY: Final = {"prompt": "a red house beside a lake"}
_PATIENCE_S: Final = 600.0


def _tell(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


class Caller:
    """Two keys' clients of one API."""

    def __init__(self, streams: aiohttp.ClientSession, requests: aiohttp.ClientSession) -> None:
        self._streams = streams
        self._requests = requests
        self._job_ids: list[str] = []
        self.seconds: list[float] = []
        self.statuses: list[int] = []
        self.closed = 0
        self.streamed = 0
        self.partial = 0
        self.lost = 0

    async def stream(self, opened: asyncio.Semaphore) -> None:
        """Wait for one picture after the other; each stream that begins is a slot of `opened`."""
        body = _BODY | {"stream": True, "partial_images": 3, "n": 1}
        while True:
            ended = False
            async with self._streams.post("/v1/images/generations", json=body) as answer:
                opened.release()
                # A picture as base64 is one long line.
                async for chunk in answer.content.iter_any():
                    self.partial += chunk.count(b"event: image_generation.partial_image")
                    ended = ended or b"event: image_generation.completed" in chunk
            self.streamed += ended
            self.lost += not ended

    async def ask_on(self, rate: int) -> None:
        """Begin `rate` requests a second, whatever becomes of those before."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._ask(0)  # The others look at its job.
        self.seconds.clear()
        self.statuses.clear()
        async with asyncio.TaskGroup() as group:
            number = 1
            while True:
                await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
                group.create_task(self._ask(number))
                number += 1

    async def _ask(self, number: int) -> None:
        # Of twenty thirteen look at a job, four list jobs, two list models, one asks for a picture.
        kind = number % 20
        if kind == 0 or not self._job_ids:
            how = self._requests.post("/api/v1/images/generate?async=true", json=_BODY)
        elif kind in {5, 10, 15, 19}:
            how = self._requests.get("/api/v1/jobs?limit=20")
        elif kind in {7, 14}:
            how = self._requests.get("/v1/models")
        else:
            how = self._requests.get(f"/api/v1/jobs/{self._job_ids[-1 - number % 5 :][0]}")
        began = time.perf_counter()
        try:
            async with how as answer:
                await answer.read()
                self.seconds.append(time.perf_counter() - began)
                self.statuses.append(answer.status)
                if "X-Job-Id" in answer.headers:
                    self._job_ids.append(answer.headers["X-Job-Id"])
        except aiohttp.ClientError:  # Where there are too many connections, some are closed.
            self.closed += 1


async def _call(url: str, streams: int, rate: int, keys: tuple[str, str]) -> None:
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)

    def session(key: str) -> aiohttp.ClientSession:
        headers = {"Authorization": f"Bearer {key}"}
        connector = aiohttp.TCPConnector(limit=0)
        return aiohttp.ClientSession(url, headers=headers, timeout=timeout, connector=connector)

    async with session(keys[0]) as first, session(keys[1]) as second:
        caller = Caller(first, second)
        opened = asyncio.Semaphore(0)
        tasks = [asyncio.create_task(caller.stream(opened)) for _ in range(streams)]
        for _ in range(streams):
            await opened.acquire()
        _tell(event="waiting")
        began = time.perf_counter()
        tasks.append(asyncio.create_task(caller.ask_on(rate)))
        await asyncio.to_thread(sys.stdin.readline)
        wall_s = time.perf_counter() - began
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [repr(end) for end in ends if not isinstance(end, asyncio.CancelledError)]
    _tell(
        event="result",
        wall_s=wall_s,
        seconds=caller.seconds,
        statuses=caller.statuses,
        closed=caller.closed,
        streamed=caller.streamed,
        partial=caller.partial,
        lost=caller.lost + len(failed),
        failed=failed[:5],
    )


def main() -> None:
    """Run the clients."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("streams", type=int)
    parser.add_argument("rate", type=int)
    parser.add_argument("keys", nargs=2)
    options = parser.parse_args()
    asyncio.run(_call(options.url, options.streams, options.rate, tuple(options.keys)))


if __name__ == "__main__":
    main()
