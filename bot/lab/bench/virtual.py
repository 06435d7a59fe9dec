"""An event loop whose time is virtual: it jumps to the next timer when nothing else is going on.

The loop asks its selector to wait only when no callback is ready. Where work outside of the loop is
under way then (a thread of the database), it really waits for that; where none is, nothing can
happen before the next timer, and the clock is set to it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

from typing_extensions import override

from storage.database import Database, Transaction

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs in virtual seconds, from 0; `asyncio.sleep` and timeouts take no real time."""

    def __init__(self) -> None:
        self.before_jump: list[Callable[[], None]] = []
        """Called each time that everything has settled, before time goes on."""
        self._virtual_s = 0.0
        self._held = 1
        super().__init__(_Selector(self))

    @override
    def time(self) -> float:
        return self._virtual_s

    @contextmanager
    def flowing(self) -> Generator[None]:
        """Let time go on inside the block; before and after it, time stands still."""
        self._held -= 1
        try:
            yield
        finally:
            self._held += 1

    @contextmanager
    def held(self) -> Generator[None]:
        """Hold time still while threads work for the code inside the block."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    def settled(self, timeout: float | None) -> bool:
        """Jump to the next timer, `timeout` seconds ahead; False if threads are still at work.

        Raises `RuntimeError` when nothing could ever happen again.
        """
        if self._held:
            return False
        if timeout is None:
            raise RuntimeError("every task waits, and for nothing that will come")
        for listener in self.before_jump:
            listener()
        self._virtual_s += timeout
        return True


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or (timeout is not None and timeout <= 0):
            return found
        return [] if self._loop.settled(timeout) else super().select(None)


class HeldDatabase(Database):
    """A database whose calls take no virtual time."""

    @override
    async def write(
        self,
        fn: Callable[[Transaction], Awaitable[T]],
        *,
        then: Callable[[T], None] | None = None,
        first: bool = False,
    ) -> T:
        with _loop().held():
            return await super().write(fn, then=then, first=first)

    @override
    async def read(self, fn: Callable[[Transaction], Awaitable[T]]) -> T:
        with _loop().held():
            return await super().read(fn)


def _loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
