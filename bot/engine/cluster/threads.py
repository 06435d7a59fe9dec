"""Threads for Ray's blocking calls, which may be left behind when a call hangs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(limit_s: float, call: Callable[[], T]) -> T:
    """Return what `call` returns on a new thread; raise `TimeoutError` after `limit_s` seconds.

    The thread is a daemon: neither the end of this process nor the next call waits for one that
    hangs, as they would with a pool.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is None:
            result.set_result(value)  # type: ignore[arg-type]
        else:
            result.set_exception(error)

    def run() -> None:
        value, failure = None, None
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended in the meantime
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=run, name="ray-call", daemon=True).start()
    async with asyncio.timeout(limit_s):
        return await result
