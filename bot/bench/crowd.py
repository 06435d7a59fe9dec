"""The other side of `bench response`: a sandbox and its users, in a process of their own.

Speaks JSON lines on stdout: the address, each login of a bot, and the result; starts at a line on
stdin.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from typing import Any, Final

from bot.sandbox.people import NoResponse
from bot.sandbox.server import Sandbox

_USERS: Final = ("alice", "bob", "chen", "mallory")
# Pauses are exponential, so that presses overlap as independent people's do.
_MEAN_PAUSE_S: Final = 0.25


def _tell(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


async def _press_on(sandbox: Sandbox, name: str, count: int, times: list[float]) -> int:
    """Ask `count` times; return how often nothing came back."""
    user, lost = sandbox.user(name), 0
    for number in range(count):
        await asyncio.sleep(random.expovariate(1 / _MEAN_PAUSE_S))
        invocation = await user.slash("general", "imagine", prompt=f"picture {number} for {name}")
        try:
            await invocation.response()
            times.append(invocation.interaction.response_seconds)
        except NoResponse:
            lost += 1
    return lost


async def _report_logins(sandbox: Sandbox) -> None:
    while True:
        await sandbox.ready(timeout=600)
        _tell(event="online")
        await sandbox.wait(lambda: not sandbox.gateway.connected, timeout=3600)


async def crowd(count: int) -> None:
    """Serve a sandbox, wait for the word, press, report."""
    async with Sandbox() as sandbox:
        _tell(event="address", api_url=sandbox.api_url)
        logins = asyncio.create_task(_report_logins(sandbox))
        await asyncio.to_thread(sys.stdin.readline)
        times: list[float] = []
        share = count // len(_USERS)
        lost = await asyncio.gather(*(_press_on(sandbox, name, share, times) for name in _USERS))
        _tell(event="result", seconds=times, lost=sum(lost))
        await asyncio.to_thread(sys.stdin.readline)
        logins.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    asyncio.run(crowd(parser.parse_args().count))
