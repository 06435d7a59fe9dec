from __future__ import annotations

import io
import logging

import pytest

from bot.logs import set_up_logging
from tests.wire.conftest import _route, judge, sandbox, stage

__all__ = ["_route", "judge", "sandbox", "stage"]


@pytest.fixture
def log():
    """What the bot logs at DEBUG, as its own formatter writes it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    capped = {name: logging.getLogger(name).level for name in ("discord", "aiosqlite", "PIL")}
    stream = io.StringIO()
    set_up_logging("DEBUG", stream=stream)
    yield stream
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in capped.items():
        logging.getLogger(name).setLevel(old)
