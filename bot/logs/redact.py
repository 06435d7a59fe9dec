"""The redactor: keeps a job's texts out of the log, whatever libraries and exceptions quote."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from typing import Final

_SHORTEST: Final = 8
_WINDOW: Final = 12


class Redactor:
    """Replaces what a line shares with secret texts by an ellipsis.

    A line may show a part of a text only (a cut message, a broken line) or its escaped form, so
    every run of 12 characters that also stands in a text goes; of a shorter text all of it, and
    texts below 8 characters are too common to be secret.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._texts = tuple(texts)

    @cached_property
    def _windows(self) -> dict[int, set[str]]:
        # Made at the first line: most tasks log none while they hold a text.
        made: dict[int, set[str]] = {}
        for text in self._texts:
            for form in {text, repr(text)[1:-1], json.dumps(text)[1:-1]}:
                size = min(_WINDOW, len(form))
                if size >= _SHORTEST:
                    windows = made.setdefault(size, set())
                    windows.update(form[i : i + size] for i in range(len(form) - size + 1))
        return made

    def __call__(self, line: str) -> str:
        """Return `line` without the secret texts."""
        hidden = bytearray(len(line))
        for size, windows in self._windows.items():
            for start in range(len(line) - size + 1):
                if line[start : start + size] in windows:
                    hidden[start : start + size] = b"\1" * size
        if not any(hidden):
            return line
        kept: list[str] = []
        for position, character in enumerate(line):
            if not hidden[position]:
                kept.append(character)
            elif position == 0 or not hidden[position - 1]:
                kept.append("…")
        return "".join(kept)
