"""Text in quotation marks: what of a prompt is to be written in the picture, to the letter.

Languages pair the same marks in different ways („A“, “A”, ”A”, »A«, «A»), and people mix them:
any mark of a family closes what any of it opened.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

_DOUBLE: Final = '"＂“”„‟〝〞〟'
_GUILLEMETS: Final = ("«»", "‹›")
_SINGLE: Final = "'＇‘’‚‛`´"
_BRACKETS: Final = dict(zip("「『【《〈〖｢﹁﹃", "」』】》〉〗｣﹂﹄", strict=True))
_CLOSING: Final = "".join(_BRACKETS.values())
_FAMILIES: Final = {mark: family for family in (_DOUBLE, *_GUILLEMETS) for mark in family}
# These open a quotation whatever stands before them: no apostrophe or inch mark looks so.
_OPENS_ALONE: Final = "“„‟〝‘‚‛"
_ANY: Final = _DOUBLE + "".join(_GUILLEMETS) + _SINGLE + "".join(_BRACKETS) + _CLOSING
_MARK: Final = re.compile(f"[{re.escape(_ANY)}]")
# The scripts in whose words apostrophes stand. In 写着'开业'的 all of them are quotation marks.
_WITH_APOSTROPHES: Final = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "GEORGIAN")
_IDEOGRAPH: Final = "[\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
_BETWEEN_IDEOGRAPHS: Final = re.compile(f"(?<={_IDEOGRAPH}) (?={_IDEOGRAPH})")
_DECADE: Final = re.compile(r"\d0s\b")
_ALIKE: Final = str.maketrans(dict.fromkeys(_SINGLE, "'") | dict.fromkeys(_DOUBLE, '"'))


@dataclass
class Quoted:
    """The quoted strings of a text, and the text without them."""

    strings: Counter[str] = field(default_factory=Counter[str])
    unclosed: list[str] = field(default_factory=list[str])
    """What follows a mark that opens and is never closed, up to the end of its line."""
    rest: str = ""
    """What is outside of quotation marks; unclosed ones enclose nothing here."""
    whole: str | None = None
    """What is in the quotation marks where they are around all of the text."""


def quoted(text: str) -> Quoted:
    """Return what of a text is in quotation marks, whichever those are."""
    return _Reading(unicodedata.normalize("NFC", text)).read()


def same_quotes(said: Quoted, now: Quoted) -> bool:
    """Tell whether a rewrite has the quoted strings of a prompt, and no others."""
    found = now.strings + Counter(now.unclosed)
    if found == said.strings + Counter(said.unclosed):
        return True
    if said.strings - found:
        return False
    more = list((found - said.strings).elements())
    if len(more) != len(said.unclosed):
        return False
    # Where somebody forgot to close one, the writer says how far it goes: to the end of a word.
    return all(
        (tail + " ").startswith(string + " ") or _ends_at_ideograph(tail, string)
        for tail, string in zip(said.unclosed, more, strict=True)
    )


def _ends_at_ideograph(tail: str, string: str) -> bool:
    return tail.startswith(string) and not _in_words(string[-1])


def _folded(text: str) -> str:
    """Return a string as it is compared: where lines break, and inner marks, make no difference."""
    plain = " ".join(text.split()).translate(_ALIKE)
    return _BETWEEN_IDEOGRAPHS.sub("", plain).strip(_ANY + " ")


def _in_words(character: str) -> bool:
    """Tell whether a mark beside this character is an apostrophe."""
    if character.isdecimal():
        return True
    return character.isalpha() and unicodedata.name(character, "").startswith(_WITH_APOSTROPHES)


class _Reading:
    """One pass over a text. The places of what may close are sought once, not for each opening."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._places: dict[str, list[int]] = {}
        for match in _MARK.finditer(text):
            mark, at = match[0], match.start()
            if mark in _SINGLE:
                if self._may_end_single(at):
                    self._places.setdefault(_SINGLE, []).append(at)
            elif mark in _FAMILIES:
                self._places.setdefault(_FAMILIES[mark], []).append(at)
            elif mark in _CLOSING:
                self._places.setdefault(mark, []).append(at)
                self._places.setdefault(_CLOSING, []).append(at)

    def read(self) -> Quoted:
        found = Quoted()
        outside: list[str] = []
        text, at, kept = self._text, 0, 0
        while (match := _MARK.search(text, at)) is not None:
            opening = match.start()
            inside = self._inside(opening)
            end = self._end(opening, inside)
            if end is not None:
                string = _folded(text[inside:end])
                at = end + (self._run(end) if inside - opening > 1 else 1)
                if string:
                    found.strings[string] += 1
                    outside += text[kept:opening], " "
                    kept = at
                if opening == len(text) - len(text.lstrip()) and not text[at:].strip():
                    found.whole = text[inside:end].strip()
            elif self._stays_open(opening):
                at = self._line_end(opening)
                tail = _folded(text[inside:at])
                if tail:
                    found.unclosed.append(tail)
            else:
                at = inside
        found.rest = "".join((*outside, text[kept:]))
        return found

    def _beside(self, at: int) -> tuple[str, str]:
        return self._text[at - 1 : at] if at else "", self._text[at + 1 : at + 2]

    def _run(self, at: int) -> int:
        """Return how often one mark stands here: ""OPEN"" is quoted once."""
        run = 1
        while self._text[at + run : at + run + 1] == self._text[at]:
            run += 1
        return run

    def _inside(self, opening: int) -> int:
        mark = self._text[opening]
        return opening + (self._run(opening) if mark in _DOUBLE + "`" else 1)

    def _line_end(self, at: int) -> int:
        end = self._text.find("\n", at)
        return len(self._text) if end < 0 else end

    def _end(self, opening: int, inside: int) -> int | None:
        """Return where the quotation that a mark opens ends; None where it opens none."""
        mark = self._text[opening]
        before, behind = self._beside(opening)
        if mark in _BRACKETS:
            own = self._next(_BRACKETS[mark], inside)
            return self._next(_CLOSING, inside) if own is None else own
        if mark in _CLOSING:
            return None
        if mark in _SINGLE:
            if not behind or behind.isspace() or _DECADE.match(self._text, opening + 1):
                return None
            if before and _in_words(before) and mark not in _OPENS_ALONE:
                return None
            return self._next(_SINGLE, inside)
        if before.isdecimal() and mark not in _OPENS_ALONE and mark in _DOUBLE:
            return None  # An inch mark.
        end = self._next(_FAMILIES[mark], inside)
        if end is not None and end > self._line_end(opening) and self._looks_open(end):
            return None  # Two that nobody closed, on lines of their own.
        return end

    def _next(self, family: str, start: int) -> int | None:
        places = self._places.get(family, [])
        index = bisect_left(places, start)
        return places[index] if index < len(places) else None

    def _may_end_single(self, at: int) -> bool:
        before, behind = self._beside(at)
        return bool(before) and not before.isspace() and not (behind and _in_words(behind))

    def _looks_open(self, at: int) -> bool:
        before, behind = self._beside(at)
        return (not before or before.isspace()) and bool(behind) and not behind.isspace()

    def _stays_open(self, opening: int) -> bool:
        """Tell whether a mark that nothing closes opens something all the same.

        A single one is as well an apostrophe ('tis), and one behind a word closes, if anything.
        """
        mark = self._text[opening]
        before, behind = self._beside(opening)
        if mark in _SINGLE or mark in _CLOSING or (before.isdecimal() and mark in _DOUBLE):
            return mark in _OPENS_ALONE and mark in _DOUBLE
        if mark in _BRACKETS or mark in _OPENS_ALONE:
            return True
        return not (before.isalpha() and not behind.isalnum())
