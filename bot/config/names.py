"""Names in `.env` that mean nothing: mostly a setting that is misspelt."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from bot.config.env_lines import env_lines
from bot.config.libraries import OF_LIBRARIES
from bot.config.settings import Settings

# What compose and the bot's own processes read from it besides.
_OTHERS: Final = re.compile(r"COMPOSE_\w+|RAY_\w+|PYTHON\w+|TZ|LANG|LC_\w+", re.IGNORECASE)
_ALL: Final = ".env.example has them all"


@dataclass(frozen=True, slots=True)
class Idle:
    """A line of `.env` that does nothing: what it is, and what to do about it."""

    text: str
    step: str

    def __str__(self) -> str:
        """Return both in one sentence."""
        return f"{self.text}: {self.step} ({_ALL})"


def idle_lines(file: Path = Path(".env")) -> Iterator[Idle]:
    """Yield the lines of `file` that set nothing, without their values."""
    known = [name.upper() for name in Settings.model_fields]
    for line in env_lines(file):
        if not line.name:
            what = f"line {line.number} of {file.name} is not of the form NAME=VALUE"
            yield Idle(f"{what} and does nothing", "mend it, or delete it")
        elif not (
            line.name.upper() in known
            or OF_LIBRARIES.fullmatch(line.name)
            or _OTHERS.fullmatch(line.name)
        ):
            near = get_close_matches(line.name.upper(), known, 1)
            what = f"{line.name} in {file.name} is no setting and does nothing"
            step = f"did you mean {near[0]}?" if near else "delete the line"
            yield Idle(f"{what} (line {line.number})", step)
