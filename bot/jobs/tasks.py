"""Tasks that must end: also while they are being cancelled, or their database refuses."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

log = logging.getLogger(__name__)

RETRY_LIMIT_S: Final = 30.0
"""The longest pause between two tries."""

T = TypeVar("T")


def being_cancelled() -> bool:
    """Tell whether the current task was told to end, whatever has become of that since."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def unbroken(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end; a cancellation that arrives meanwhile is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()


async def until_stored(work: Callable[[], Awaitable[T]], retry_s: float = 1.0) -> T:
    """Repeat `work` while the database refuses (a full disk, for one), ever more slowly."""
    while True:
        try:
            return await work()
        except sqlite3.OperationalError as error:
            log.error("the database refuses (%s); next try in %g s", error, retry_s)
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, RETRY_LIMIT_S)
