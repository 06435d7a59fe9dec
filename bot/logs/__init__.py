"""Logging: one line per event, the job's id in it, no secrets and no forged lines."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final, TextIO

from typing_extensions import override

from bot.logs.file import FILE_NAME, JsonFormatter, log_file_handler
from bot.logs.redact import Redactor

_job_id: ContextVar[str] = ContextVar("job_id", default="-")
_redactor: ContextVar[Redactor | None] = ContextVar("redactor", default=None)

# Interaction tokens stand in webhook and callback paths.
_TOKEN_IN_PATH: Final = re.compile(r"((?:webhooks|interactions)/\d+/)[^/\s?\"']+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@contextmanager
def job_context(job_id: str, *texts: str) -> Generator[None]:
    """Put `job_id` into every line that is logged within, and keep `texts` (prompts) out.

    Without texts, those that are kept out already stay so.
    """
    token = _job_id.set(job_id)
    hiding = _redactor.set(Redactor(texts) if texts else _redactor.get())
    try:
        yield
    finally:
        _redactor.reset(hiding)
        _job_id.reset(token)


def hide(*texts: str) -> None:
    """Keep these texts out of whatever the rest of this task, and what it starts, logs."""
    _redactor.set(Redactor(texts))


class Cleaner:
    """Takes secrets, interaction tokens and (unless `prompts`) what was typed out of a text."""

    def __init__(self, secrets: tuple[str, ...], *, prompts: bool) -> None:
        self._secrets = tuple(secret for secret in secrets if secret)
        self._prompts = prompts

    def __call__(self, text: str) -> str:
        """Return the cleaned text."""
        if not self._prompts and (redact := _redactor.get()) is not None:
            text = redact(text)
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return _TOKEN_IN_PATH.sub(r"\1[token]", text)


class LineFormatter(logging.Formatter):
    """Formats a record as one line; a traceback follows indented, so nothing can forge a line."""

    def __init__(self, secrets: tuple[str, ...] = (), *, prompts: bool = False) -> None:
        super().__init__(
            "%(asctime)s %(levelname)-7s %(job)-18s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S"
        )
        self._clean = Cleaner(secrets, prompts=prompts)

    @override
    def format(self, record: logging.LogRecord) -> str:
        record.job = job = _job_id.get()
        text = super().format(record)
        # Not the line's own head, which a prompt may well repeat.
        head = f"{record.asctime} {record.levelname:<7} {job:<18} {record.name}: "
        text = (head + self._clean(text.removeprefix(head))).replace("\r", "\\r")
        text = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
        return text.replace("\n", "\n    ")


def set_up_logging(
    level: str,
    *,
    secrets: tuple[str, ...] = (),
    prompts: bool = False,
    stream: TextIO | None = None,
    folder: Path | None = None,
) -> None:
    """Log to `stream` (default stderr) at `level`; strings in `secrets` are replaced.

    Prompts are kept out unless `prompts` is set. With `folder` its log file gets every event too,
    as JSON; where that can't be opened, a warning says so.

    discord.py is heard from WARNING on, and at DEBUG from INFO on, never below: there it logs whole
    gateway events with interaction tokens in them. So are the other libraries below, but at INFO.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(secrets, prompts=prompts))
    handlers: list[logging.Handler] = [handler]
    problem: OSError | None = None
    if folder is not None:
        clean = Cleaner(secrets, prompts=prompts)
        try:
            handlers.append(log_file_handler(folder, JsonFormatter(clean, _job_id.get)))
        except OSError as error:
            problem = error
    logging.basicConfig(level=level, handlers=handlers, force=True)
    logging.captureWarnings(capture=True)
    number = logging.getLevelNamesMapping()[level]
    for name in ("aiosqlite", "asyncio", "PIL"):
        logging.getLogger(name).setLevel(max(logging.INFO, number))
    # What it says of logins and sessions at INFO, the bot says itself.
    heard = logging.INFO if number < logging.INFO else max(logging.WARNING, number)
    logging.getLogger("discord").setLevel(heard)
    if problem is not None:
        logging.getLogger(__name__).warning(
            "there is no log file: %s in LOG_DIR cannot be written (%s)",
            FILE_NAME,
            problem.strerror,
        )
