"""What is wrong with a setting, in this project's words: pydantic's are for programmers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bot.config.env_lines import env_lines, origin
from bot.errors import ConfigError

# The kinds of pydantic's errors (https://docs.pydantic.dev/latest/errors/validation_errors/) that
# a text from the environment can bring about, and the halves of sentences for them.
_WORDS: Final[Mapping[str, str]] = {
    "greater_than_equal": "it must be {ge:g} or more",
    "greater_than": "it must be more than {gt:g}",
    "less_than_equal": "it must be {le:g} or less",
    "less_than": "it must be less than {lt:g}",
    "finite_number": "it must be a number, and not an infinite one",
    "int_parsing": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "int_parsing_size": "it must be a whole number with fewer digits",
    "float_parsing": "it must be a number",
    "float_type": "it must be a number",
    "bool_parsing": "it must be true or false",
    "string_type": "it must be a text",
}
_CHOICE: Final = re.compile(r"'([^']*)'")


class WrongSettings(ConfigError):
    """Settings are wrong; `sentences` has one for each, without `.` at its end."""

    def __init__(self, sentences: Collection[str]) -> None:
        self.sentences = tuple(sentences)
        one = len(self.sentences) == 1
        what = "Wrong setting: " if one else f"{len(self.sentences)} settings are wrong:\n  "
        end = ". See .env.example." if one else "\n.env.example describes them all."
        super().__init__(what + "\n  ".join(self.sentences) + end)


def wrong_settings(
    error: ValidationError, file: Path | None, *, given: Collection[str], secrets: Collection[str]
) -> WrongSettings:
    """Return the error to raise instead of pydantic's; `file` is the `.env` that was read.

    Values that come from the environment or are `secrets` (names of fields) are not shown, and of
    a line of `file` nothing that looks like one. `given` are the fields that the program set.
    """
    lines = {line.name.lower(): line.number for line in env_lines(file)} if file else {}
    sentences: list[tuple[int, str]] = []
    for item in error.errors(include_url=False, include_input=False):
        name = "_".join(str(step) for step in item["loc"][:1])
        sentence = reason(item)
        if name:
            sentence = f"{name.upper()}: {sentence}"
            source = origin(name, file or Path(), secret=name in secrets, given=given)
            sentence += f" ({source})" if source else ""
        sentences.append((lines.get(name, 0), sentence))
    # In the file's order: somebody goes through it with them.
    return WrongSettings([sentence for _, sentence in sorted(sentences, key=itemgetter(0))])


def reason(item: ErrorDetails) -> str:
    """Return half a sentence about one error; it never shows the value."""
    context: dict[str, Any] = item.get("ctx", {})
    if item["type"] == "literal_error":
        *others, last = _CHOICE.findall(context["expected"])
        return f"it must be {', '.join(others)} or {last}"
    if item["type"] == "value_error":
        return item["msg"].removeprefix("Value error, ").rstrip(".")
    words = _WORDS.get(item["type"])
    return words.format(**context) if words else item["msg"]
