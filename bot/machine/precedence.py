"""Precedence: what is short and waited for goes before what can wait a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Final

_LONGEST_S: Final = 1.0
"""What is not through by then is not waited for any more."""
PATIENCE_S: Final = 0.25
"""How long others wait at most, so that they come to their turn in any storm."""


class Precedence:
    """What goes first at the moment; others give way while there is any."""

    def __init__(self) -> None:
        self._open: dict[Hashable, asyncio.TimerHandle] = {}
        self._clear = asyncio.Event()
        self._clear.set()
        self._others_until = 0.0
        """In the loop's own seconds."""

    def begin(self, key: Hashable) -> None:
        """Note that something goes first, until `end` or for a second; needs a running loop."""
        if key not in self._open:
            loop = asyncio.get_running_loop()
            self._open[key] = loop.call_later(_LONGEST_S, self.end, key)
            self._clear.clear()

    def end(self, key: Hashable) -> None:
        """Note that it is through."""
        timer = self._open.pop(key, None)
        if timer is not None:
            timer.cancel()
        if not self._open:
            self._clear.set()

    async def give_way(self) -> None:
        """Return once nothing goes first, or when `PATIENCE_S` is over.

        Whoever waited so long is followed by all others for as long: half of the time is theirs.
        """
        loop = asyncio.get_running_loop()
        if self._clear.is_set() or loop.time() < self._others_until:
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._clear.wait()
        except TimeoutError:
            self._others_until = loop.time() + PATIENCE_S
