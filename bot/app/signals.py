"""Signals that stop the bot: cleanly at the first, at once at the second."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Final

# Below the 10 s that service managers commonly allow before they kill.
STOP_LIMIT_S: Final = 9.0


def _end_at_once(why: str) -> None:
    # Straight to the descriptor: whatever hangs may hold the lock of the log.
    os.write(2, f"{why}\n".encode())
    os._exit(1)


def handle_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> list[int]:
    """Stop cleanly at the first SIGINT, SIGTERM or Ctrl-Break, and at once at the second.

    A stop that takes too long ends the process as a kill would: the next start puts things right.
    Returns the list to which the first signal's number will be added.
    """
    received: list[int] = []
    late = threading.Timer(STOP_LIMIT_S, _end_at_once, ("the clean stop took too long",))
    late.daemon = True

    def receive(number: int) -> None:
        if received:
            _end_at_once("stopped at once by a second signal")
        received.append(number)
        late.start()
        stop()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGBREAK"):  # Windows
        numbers.append(signal.SIGBREAK)
    for number in numbers:
        try:
            loop.add_signal_handler(number, receive, number)
        except NotImplementedError:  # Windows: no loop support
            signal.signal(number, lambda n, _frame: loop.call_soon_threadsafe(receive, n))
    return received
