"""Ballast: another program that holds the card's memory: `python -m bot.lab.bench.ballast 6`.

It takes all but that many GiB, says "held", and keeps them until its input ends.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Self


class Ballast:
    """A program that holds some of the card, or nothing."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def leave(self, free_gib: float | None) -> None:
        """Hold all of the card but `free_gib` GiB, or (None) nothing; returns when it is so."""
        await self._release()
        if free_gib is None:
            return
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, f"{free_gib}", stdin=pipe, stdout=pipe
        )
        assert self._process.stdout is not None
        assert (await self._process.stdout.readline()).strip() == b"held"

    async def _release(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._release()


def _hold(free_gib: float) -> None:
    import torch  # noqa: PLC0415 - slow to import, and not needed to start one

    held: list[torch.Tensor] = []
    piece = 2**26
    # What is free may still be in another program's hands for a moment: what can be had is taken.
    while torch.cuda.mem_get_info()[0] - piece > free_gib * 2**30:
        try:
            held.append(torch.empty(piece, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            break
    sys.stdout.write("held\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    _hold(float(sys.argv[1]))
