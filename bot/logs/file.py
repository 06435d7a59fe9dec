"""The log file: one JSON object per event, for programs; rotated, written by its own thread."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import queue
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

FILE_NAME: Final = "ai-server.log"
_LARGEST: Final = 10 * 2**20
_KEPT: Final = 5
# What a disk that hangs may hold back; beyond it lines are dropped, and said to be.
_WAITING: Final = 10_000


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time (UTC), level, job, logger, message, traceback.

    `clean` takes secrets and prompts out of a text; `job` returns the job that is worked on.
    """

    def __init__(self, clean: Callable[[str], str], job: Callable[[], str]) -> None:
        super().__init__()
        self._clean = clean
        self._job = job

    @override
    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "job": self._job(),
            "logger": record.name,
            "message": self._clean(record.getMessage()),
        }
        if record.exc_info:
            event["traceback"] = self._clean(self.formatException(record.exc_info))
        return json.dumps(event, ensure_ascii=False)


class _File(RotatingFileHandler):
    """Says once on standard error that the file can't be written, instead of at every line."""

    _complained = False

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        if not self._complained:
            self._complained = True
            sys.stderr.write(f"the log file cannot be written: {sys.exc_info()[1]}\n")


class _Queue(QueueHandler):
    """Formats where it is called, since only there the job is known; never waits for the disk."""

    def __init__(
        self, waiting: queue.Queue[logging.LogRecord], listener: QueueListener, file: _File
    ) -> None:
        super().__init__(waiting)
        self._listener: QueueListener | None = listener
        self._file = file
        self._dropped = 0

    @override
    def close(self) -> None:
        """Write what waits, and close the file. Idempotent."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()
            # A full disk refuses the last lines once more; there is nobody left to tell.
            with contextlib.suppress(OSError):
                self._file.close()
        super().close()

    @override
    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self._dropped += 1
            return
        if self._dropped:
            sys.stderr.write(f"{self._dropped} lines of the log file were dropped\n")
            self._dropped = 0


def log_file_handler(folder: Path, formatter: JsonFormatter) -> _Queue:
    """Return a handler that writes to `folder`/ai-server.log through a thread.

    The file is rotated at 10 MiB, and five older ones are kept. Raises `OSError` when it can't be
    opened. At the process's end what waits is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = _File(
        folder / FILE_NAME,
        maxBytes=_LARGEST,
        backupCount=_KEPT,
        encoding="utf-8",
        errors="backslashreplace",
    )
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(_WAITING)
    listener = QueueListener(waiting, file)
    listener.start()
    handler = _Queue(waiting, listener, file)
    handler.setFormatter(formatter)
    atexit.register(handler.close)
    return handler
