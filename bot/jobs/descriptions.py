"""What the language model writes about pictures: what is seen, and prompts for it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

LETTERS_A_TOKEN: Final = 10
"""Characters that are kept of a text for each token that it may have: twice what English has."""
# Within one line: looked for over all blank lines that follow, from each of them on, it would take
# minutes of a text that is nothing else.
_PART: Final = re.compile(
    r"^[ \t*#>-]*(CONTENT|ENGLISH|CHINESE)[ \t*]*[:\uff1a][ \t*]*", re.MULTILINE | re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Description:
    """What a picture shows, and a prompt for it in English and Chinese, "" where none came."""

    content: str
    english: str = ""
    chinese: str = ""

    def prompt(self, *, chinese: bool) -> str:
        """Return the prompt in a language, else in the other, else what is seen."""
        wanted = (self.chinese, self.english) if chinese else (self.english, self.chinese)
        return next(filter(None, wanted), self.content)


def tidied(answer: str, longest: int) -> str:
    """Return what a model wrote as it is kept, at most `longest` characters.

    Without control characters and halves of surrogate pairs, with one blank line for several.
    """
    lines = list[str]()
    for line in answer.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        kept = "".join(c for c in line if c == "\t" or unicodedata.category(c) not in {"Cc", "Cs"})
        if (kept := kept.rstrip()) or (lines and lines[-1]):
            lines.append(kept)
    return "\n".join(lines).strip()[:longest].rstrip()


def read_description(text: str) -> Description:
    """Return the parts of an answer; one that does not keep to the form is all content."""
    parts = _PART.split(text.strip())
    found = dict[str, str]()
    for name, value in zip(parts[1::2], parts[2::2], strict=True):
        found.setdefault(name.lower(), value.strip())
    content = " ".join(filter(None, (parts[0].strip(), found.get("content", ""))))
    english, chinese = found.get("english", ""), found.get("chinese", "")
    return Description(content or english or chinese, english, chinese)
