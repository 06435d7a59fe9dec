"""How else a text may be read: what prompt rules look through besides the text itself.

Each reading is one way in which words are spelled to get past a rule. They are few and narrow,
since each could find a word where nobody wrote it (docs/moderation.md says what is left out).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import regex

from bot.rules.lookalikes import fold

_LEET: Final = str.maketrans("034578@$€£", "oeastbaael")
_LEET_SIGNS: Final = regex.compile(r"[0-9@$€£!|]")
_WORD: Final = regex.compile(r"\S+")
# Not in scripts without spaces: there a sign parts two words as a space does.
_BETWEEN: Final = regex.compile(r"(?<=[\p{Latin}\p{N}])(?:[^\w\s]|_)+(?=[\p{Latin}\p{N}])")
_AROUND: Final = regex.compile(r"^[^\w@$€£]+|[^\w@$€£]+$")
_LETTERS: Final = regex.compile(r"\p{L}")
_STRETCHED: Final = regex.compile(r"(\p{L})\1{2,}")
# Single characters, each apart from the next in the same way, as in "g o r e" and "g.o.r.e".
_APART: Final = regex.compile(
    r"(?<![\p{L}\p{N}])[\p{L}\p{N}]([^\p{L}\p{N}]+)[\p{L}\p{N}](?:\1[\p{L}\p{N}])*(?![\p{L}\p{N}])"
)
_SEPARATORS: Final = regex.compile(r"[^\p{L}\p{N}]+")
# Hangul fillers, joiners and the like are letters to Unicode, and nothing to the eye.
_UNSEEN: Final = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Cf}\p{Mn}\p{Me}]")
_BLANK: Final = "\u2800"
"""The empty Braille pattern: a space to the eye."""


@dataclass(frozen=True, slots=True)
class Readings:
    """A text as it may be read."""

    plain: str
    """Compatibility forms, case and invisible marks taken away."""
    folded: str
    """Lookalikes in place of Latin letters are folded besides."""
    respelled: tuple[str, ...]
    """Besides, signs within words are left out, digits are read as letters, stretches shortened."""
    spelled_out: tuple[str, ...]
    """Single characters that stand apart from each other, put together."""


def normalised(text: str) -> str:
    """Return text as rules see it: compatibility forms, case and invisible marks taken away."""
    return _plain(_apart(text))


def folded(text: str, *, words: bool = True) -> str:
    """Return text as `normalised`, with lookalikes folded as `lookalikes.fold` does it."""
    return _plain(fold(_apart(text), words=words))


def joined(text: str) -> str:
    """Return a folded text without the signs that stand between two letters of a word."""
    return _BETWEEN.sub("", text)


def letters(text: str) -> str:
    """Return the letters and digits of a folded text alone."""
    return _SEPARATORS.sub("", text)


def readings(text: str) -> Readings:
    """Return how a text may be read, each reading once."""
    bare = folded(text)
    respelled = tuple(dict.fromkeys(_respelled(bare)))
    apart = dict.fromkeys(run for reading in (bare, *respelled) for run in _spelled_out(reading))
    return Readings(normalised(text), bare, respelled, tuple(apart))


def _apart(text: str) -> str:
    return _UNSEEN.sub("", unicodedata.normalize("NFKD", text.replace(_BLANK, " ")))


def _plain(text: str) -> str:
    # Twice: what a case folding yields may have marks of its own, and the other way round.
    apart = unicodedata.normalize("NFKD", text.casefold())
    seen = _UNSEEN.sub("", apart)
    return " ".join(unicodedata.normalize("NFKC", seen).casefold().split())


def _respelled(text: str) -> Iterator[str]:
    for spelled in (text, _leet(text, "i"), _leet(text, "l")):
        bare = joined(spelled)
        yield bare
        yield _STRETCHED.sub(r"\1", bare)
        yield _STRETCHED.sub(r"\1\1", bare)


def _leet(text: str, one: str) -> str:
    """Return a text whose words of letters and digits have letters alone; `one` is 1, ! and |."""
    table = _LEET | str.maketrans("1!|", one * 3)

    def read(word: str) -> str:
        bare = _AROUND.sub("", word)
        if not (_LETTERS.search(bare) and _LEET_SIGNS.search(bare)):
            return word
        return bare.translate(table)

    return _WORD.sub(lambda word: read(word[0]), text)


def _spelled_out(text: str) -> Iterator[str]:
    return (letters(run[0]) for run in _APART.finditer(text))
