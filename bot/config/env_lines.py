"""The lines of `.env`: where a setting stands, and what may be shown of it."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dotenv.parser import parse_stream

_LONGEST: Final = 60
# What may be a token, a key or a login that was put into the wrong line: 20 characters and more
# with letters and digits among them, or a password in an address.
_SECRET: Final = re.compile(r"(?=\S*[A-Za-z])(?=\S*[0-9])\S{20,}|\S*@\S*")


@dataclass(frozen=True, slots=True)
class EnvLine:
    """A line that is no comment: its number, its name as it is written, and its whole text.

    The name is empty where the line sets nothing: it is not of the form NAME=VALUE.
    """

    number: int
    name: str
    text: str

    @property
    def shown(self) -> str:
        """The line without what may be a secret, in one piece, cut after 60 characters."""
        value = _SECRET.sub("…", self.text.partition("=")[2].strip())
        value = "".join(char if char.isprintable() else " " for char in value)
        line = f"{self.name}={value}"
        return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def env_lines(file: Path) -> list[EnvLine]:
    """Return the lines of `file` but for comments, in order; none where it cannot be read.

    It is read as the settings read it (python-dotenv): with quotes, values of several lines, and
    without a byte-order mark.
    """
    try:
        # The whole, since older versions of python-dotenv know of no byte-order mark.
        bindings = list(parse_stream(io.StringIO(file.read_text("utf-8-sig"))))
    except (OSError, UnicodeDecodeError):
        return []
    lines: list[EnvLine] = []
    for binding in bindings:
        text = binding.original.string.lstrip()
        if not text or text.startswith("#"):
            continue
        # The number is that of the empty lines before it.
        skipped = binding.original.string[: -len(text)].count("\n")
        named = binding.key if binding.value is not None and not binding.error else None
        lines.append(EnvLine(binding.original.line + skipped, named or "", text.rstrip()))
    return lines


def origin(
    name: str,
    file: Path,
    *,
    secret: bool,
    environment: Mapping[str, str] = os.environ,
    given: Collection[str] = (),
) -> str:
    """Say where the setting `name` was read: in the environment, or in which line of `file`.

    The environment counts before the file, and the last line of a name before the others. A line's
    text is shown unless the setting is a `secret`. Empty for what the program itself has `given`,
    and where nothing is found.
    """
    name = name.lower()
    if name in given:
        return ""
    if any(one.lower() == name and value for one, value in environment.items()):
        return "set in the environment"
    lines = [line for line in env_lines(file) if line.name.lower() == name]
    if not lines:
        return ""
    where = f"{file.name}, line {lines[-1].number}"
    return where if secret else f"{where}: {lines[-1].shown}"
