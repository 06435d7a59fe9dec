"""Letters that look like Latin ones, folded into these where they stand in for them.

A word in another alphabet stays as it is: "сор" is Russian for litter. What is folded is a letter
among Latin ones, and a word of nothing but such letters in a text where nothing else is written in
that alphabet.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Final

import regex

# By UTS 39 (https://www.unicode.org/reports/tr39/#Confusable_Detection, confusables.txt): the
# letters of the Basic Multilingual Plane that neither NFKD nor a case folding makes Latin.
_ALIKE: Final = {
    "a": "ɑαаΑАᎪᗅꓮ",
    "b": "ƄᏏᑲᖯꞴΒВᏴᗷꓐ",
    "c": "ⲥсꮯⲤСᏟꓚ",
    "d": "ԁᏧᑯꓒᎠᗞᗪꓓ",
    "e": "еҽΕЕⴹᎬꓰ",
    "f": "ꬵẝքϜᖴꓝ",
    "g": "ƍցԌᏀᏳꓖ",
    "h": "һհᏂΗⲎНᎻᕼꓧ",
    "i": "ɩιіꙇӏꭵᎥƖΙⲒІᛁꓲ",
    "j": "ϳјͿЈᎫᒍꓙ",
    "k": "ΚⲔКᏦᛕꓗ",
    "l": "ǀӀⵏⳐᏞᒪꓡ",
    "m": "ΜϺⲘМᎷᗰᛖꓟ",
    "n": "ոռΝⲚꓠ",
    "o": "ᴑοσⲟоჿօΟⲞОՕⵔꓳ",
    "p": "ρⲣрΡⲢРᏢᑭꓑ",
    "q": "ԛգզⵕ",
    "r": "ꭇꭈᴦⲅꮁƦᎡᏒᖇꓣ",
    "s": "ƽѕꮪЅՏᏕᏚꓢ",
    "t": "ΤⲦТᎢꓔ",
    "u": "ꞟυսՍᑌꓴ",
    "v": "νѵꮩѴⴸᏙᐯꓦ",
    "w": "ɯѡԝաꮃԜᎳᏔꓪ",
    "x": "хᕁᕽΧⲬХⵝᚷꓫ",
    "y": "ɣγуүყΥⲨУҮᎩᎽꓬ",
    "z": "ꮓΖᏃꓜ",
}
# Less alike: only among letters that are Latin beyond doubt.
_ROUGHLY: Final = {
    "b": "вьЬβ",
    "e": "эεє",
    "f": "ғ",
    "h": "нћђ",
    "k": "кκ",
    "m": "м",
    "n": "пηиИΠП",
    "r": "гяЯ",
    "t": "тτ",
    "u": "цμ",
    "w": "шщω",
    "x": "жχ",
    "z": "ʒз",
}
_CLOSE: Final = {letter: latin for latin, letters in _ALIKE.items() for letter in letters}
_ROUGH: Final = {
    **_CLOSE,
    **{letter: latin for latin, letters in _ROUGHLY.items() for letter in letters},
}
_LATIN: Final = regex.compile(
    r"LATIN (?:SMALL|CAPITAL) LETTER (?:SCRIPT |OPEN |DOTLESS |BLACKLETTER )?([A-Z])(?: WITH .*)?"
    r"|LATIN LETTER SMALL CAPITAL ([A-Z])|NEGATIVE (?:CIRCLED|SQUARED) LATIN CAPITAL LETTER ([A-Z])"
)
_FLAG_LETTERS: Final = regex.compile(r"[\U0001F1E6-\U0001F1FF]{3,}")  # Two of them are a flag.
_FIRST_FLAG: Final = 0x1F1E6
_RUN: Final = regex.compile(r"\p{L}+")
_WORD: Final = regex.compile(r"\S+")
_ASCII: Final = regex.compile(r"[A-Za-z]")


def fold(text: str, *, words: bool = True) -> str:
    """Return a text of compatibility forms (NFKD) with lookalikes in place of Latin letters folded.

    The case stays: capitals of other alphabets look unlike their small letters. With `words` those
    of nothing but lookalikes are folded too, where their alphabet is not that of the text.
    """
    if text.isascii():
        return text
    text = _FLAG_LETTERS.sub(
        lambda flags: "".join(chr(ord("a") + ord(c) - _FIRST_FLAG) for c in flags[0]), text
    )
    text = "".join(_latin(c) or c for c in text)
    own = {_script(c) for c in text if not c.isascii() and c.isalpha() and c not in _CLOSE}

    def folded(word: str) -> str:
        mixed = _ASCII.search(word) is not None
        if not mixed and not words:
            return word
        return _RUN.sub(lambda run: "".join(_folded(run[0], own, mixed=mixed)), word)

    return _WORD.sub(lambda word: folded(word[0]), text)


def _folded(run: str, own: set[str], *, mixed: bool) -> Iterator[str]:
    table = _ROUGH if mixed else _CLOSE
    stands_in = all(c.isascii() or (c in table and (mixed or _script(c) not in own)) for c in run)
    return (table.get(c, c) if stands_in else c for c in run)


@cache
def _latin(character: str) -> str | None:
    """Return the plain letter of a Latin one of another shape, such as ɢ, ø or 🅶."""
    if character.isascii():
        return None
    found = _LATIN.fullmatch(unicodedata.name(character, ""))
    return next(letter for letter in found.groups() if letter).lower() if found else None


@cache
def _script(character: str) -> str:
    return unicodedata.name(character, "?").partition(" ")[0]
