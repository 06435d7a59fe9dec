"""Standard output whose reader has gone: `python -m bot doctor | head` ends without a traceback."""

from __future__ import annotations

import os
import select
import sys
from typing import Final

CODE: Final = 128 + 13
"""What a shell gives a program that SIGPIPE (13) ended; `yes | head` has it in PIPESTATUS."""


def reader_gone() -> bool:
    """Tell whether standard output is a pipe that nobody reads any more.

    A `BrokenPipeError` may come from anywhere, an engine's pipe for one, and only this is none of
    ours. Windows tells nothing of a pipe's other end, so there each counts as standard output's.
    """
    try:
        number = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # None under pythonw; replaced by a test.
        return False
    if sys.platform == "win32":
        return True
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def discard_output() -> None:
    """Let what Python still flushes at its end go nowhere (docs.python.org, signal, SIGPIPE)."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
