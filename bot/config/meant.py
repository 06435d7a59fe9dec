"""Settings that cannot be meant as they are read: another encoding, escapes in a path."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from bot.config.libraries import OF_LIBRARIES
from bot.errors import ConfigError

PathOrText = TypeVar("PathOrText", Path, str)

NOT_UTF8: Final = (
    "The file .env is not in UTF-8 (UTF-16, perhaps, as PowerShell's > writes it): save it again "
    "as UTF-8."
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_WITH_CONTROL: Final = (
    "it has control characters, such as those that \\b, \\n and \\t become in double quotes: write "
    "/ for \\, or single quotes"
)


def meant(path: PathOrText) -> PathOrText:
    r"""Return a path; raise `ValueError` with a sentence for one with control characters.

    Between double quotes `.env` has escapes: "D:\new\tiny" is two lines with a tab.
    """
    if _CONTROL.search(str(path)):
        raise ValueError(_WITH_CONTROL)
    return path


def check_encoding(file: Path) -> None:
    """Raise `ConfigError` for UTF-16 without a byte-order mark, which is valid UTF-8 with NULs."""
    with suppress(OSError):
        if b"\0" in file.read_bytes():
            raise ConfigError(NOT_UTF8)


def check_libraries() -> None:
    """Raise `ConfigError` for a setting of a library (HF_HOME) with control characters."""
    for name, value in os.environ.items():
        if OF_LIBRARIES.fullmatch(name) and _CONTROL.search(value):
            raise ConfigError(f"Wrong setting: {name}: {_WITH_CONTROL}.")
