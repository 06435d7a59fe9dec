"""The judgement on a rewritten prompt: whether it may be drawn in place of what somebody typed.

It may not where it loses or invents text that is to be written in the picture, loses a number, is
in another language, or is longer than is of use. All of it is arithmetic over two texts: no model
is asked about a model.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from enum import StrEnum
from typing import Final

from bot.domain.request import PROMPT_LIMIT

LONGEST_TOKENS: Final = 512
"""Tokens of the longest prompt that Qwen-Image was trained on (bot/engine/tiny/tokenizer.py)."""
# Qwen's vocabulary, roughly: a word of Latin letters has some five of them with its space and 1.3
# tokens, an ideograph two thirds of one.
_LETTERS_A_TOKEN: Final = 3.5
_TOKENS_AN_IDEOGRAPH: Final = 0.8
# Quotation marks that open, each with the one that closes. Apostrophes within words open nothing.
_QUOTED: Final = re.compile(
    r"\"([^\"\n]+)\"|“([^”\n]+)”|„([^“”\n]+)[“”]|«([^»\n]+)»|「([^」\n]+)」|『([^』\n]+)』"
    r"|‘([^’\n]+)’(?!\w)|(?<!\w)'([^'\n]+)'(?!\w)|《([^》\n]+)》"
)
_NUMBER: Final = re.compile(r"\d+(?:[.,:]\d+)*")
_WORDS: Final = (
    *("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
)
# "One" is an article in many languages, and a pronoun in this one.
_WORD_NUMBERS: Final = {word: str(number) for number, word in enumerate(_WORDS, 2)}
_CHINESE_NUMBERS: Final = {
    **{sign: str(number) for number, sign in enumerate("二三四五六七八九十", 2)},
    "两": "2",
}
# Before a measure word alone: in 十分 and 三明治 nothing is counted.
_MEASURED: Final = re.compile(
    f"([{''.join(_CHINESE_NUMBERS)}])(?=[个只条朵位匹辆座张把本棵颗头名艘架件双对块片支枝杯瓶碗盏栋])"
)
# The commonest words that one of these languages has and the others have not.
_COMMON: Final = {
    "en": "the of and with in on at is are that from by this her his their",
    "de": "der die das und mit ein eine einer einem einen im am ist sind auf von dem den zu",
    "fr": "le la les et avec une un des du dans est sur au aux qui pour",
    "es": "el la los las y con una un en del es son por que sobre al",
    "it": "il lo gli e con una un nel della di che sono sul alla",
    "pt": "o os as e com uma um no na do da em que dos ao",
    "nl": "de het een en met van op is zijn in aan voor bij dat",
}
_COMMON_WORDS: Final = {name: frozenset(words.split()) for name, words in _COMMON.items()}
_ENOUGH_WORDS: Final = 2
_SCRIPTS: Final = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "LATIN", "CYRILLIC", "ARABIC", "GREEK")
_OTHERS: Final = ("HEBREW", "THAI", "DEVANAGARI")
_JAPANESE: Final = ("HIRAGANA", "KATAKANA")


class Reason(StrEnum):
    """Why a prompt is drawn as it was typed, though it was to be rewritten."""

    EMPTY = "empty"
    """Nothing was written."""
    LENGTH = "length"
    QUOTES = "quotes"
    """Quoted text is lost, changed or added."""
    NUMBERS = "numbers"
    LANGUAGE = "language"
    RULES = "rules"
    """It breaks a rule that the server has for prompts."""
    UNAVAILABLE = "unavailable"
    """The engine cannot write, or failed to."""


def cleaned(answer: str, prompt: str) -> str:
    """Return what a model answered as a prompt: one paragraph, without what surrounds it.

    Quotation marks around all of it are taken away, unless `prompt` has them too.
    """
    kept = "".join(c for c in answer if c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cs"})
    text = " ".join(kept.split())
    whole = _QUOTED.fullmatch(text)
    if whole is not None and not _QUOTED.fullmatch(prompt.strip()):
        text = next(part for part in whole.groups() if part is not None).strip()
    return text


def judge(prompt: str, rewritten: str) -> Reason | None:
    """Return why `rewritten` may not be drawn in place of `prompt`; None: it may."""
    if not rewritten.strip():
        return Reason.EMPTY
    if too_long(prompt, rewritten):
        return Reason.LENGTH
    if _quotes(prompt) != _quotes(rewritten):
        return Reason.QUOTES
    said, now = _unquoted(prompt), _unquoted(rewritten)
    if _numbers(said) - _numbers(now):
        return Reason.NUMBERS
    if not same_language(said, now):
        return Reason.LANGUAGE
    return None


def too_long(prompt: str, rewritten: str) -> bool:
    """Tell whether a rewrite is longer than the model reads, and than what was typed."""
    if len(rewritten) > PROMPT_LIMIT:
        return True
    return _tokens(rewritten) > max(LONGEST_TOKENS, _tokens(prompt))


def same_language(said: str, now: str) -> bool:
    """Tell whether two texts are in one language, as far as script and common words show it."""
    script, other = _script(said), _script(now)
    if script is None or other is None:
        return True
    if script != other:
        return False
    language = _language(said)
    return language is None or _language(now) in {None, language}


def is_chinese(text: str) -> bool:
    """Tell whether a text is mostly Chinese."""
    letters = [c for c in text if unicodedata.category(c).startswith("L")]
    ideographs = sum(unicodedata.name(c, "").startswith("CJK UNIFIED") for c in letters)
    # A word of English has several letters where Chinese has one character.
    return ideographs * 3 > len(letters)


def _quotes(text: str) -> Counter[str]:
    """Return the quoted strings of a text, whichever marks are around them."""
    found = (next(part for part in match.groups() if part) for match in _QUOTED.finditer(text))
    return Counter(found)


def _unquoted(text: str) -> str:
    return _QUOTED.sub(" ", text)


def _numbers(text: str) -> Counter[str]:
    """Return the numbers of a text, in digits or in words of English and Chinese."""
    plain = unicodedata.normalize("NFKC", text)
    found = Counter(_NUMBER.findall(plain))
    found.update(
        _WORD_NUMBERS[word]
        for word in re.findall(r"[a-z]+", plain.casefold())
        if word in _WORD_NUMBERS
    )
    found.update(_CHINESE_NUMBERS[sign] for sign in _MEASURED.findall(plain))
    return found


def _tokens(text: str) -> float:
    ideographs = sum(_script_of(character) == "CJK" for character in text)
    return ideographs * _TOKENS_AN_IDEOGRAPH + (len(text) - ideographs) / _LETTERS_A_TOKEN


def _script_of(character: str) -> str | None:
    if not character.isalpha():
        return None
    name = unicodedata.name(character, "")
    return next((script for script in (*_SCRIPTS, *_OTHERS) if name.startswith(script)), None)


def _script(text: str) -> str | None:
    """Return the script of most letters of a text; Japanese is known by its syllables."""
    found = Counter(filter(None, map(_script_of, text)))
    if not found:
        return None
    if any(script in found for script in _JAPANESE):
        return "JAPANESE"
    # A word of Latin letters has several where Chinese has one character.
    found["CJK"] *= 3
    return found.most_common(1)[0][0]


def _language(text: str) -> str | None:
    """Return the language whose common words a text has most of; None where that says nothing."""
    words = re.findall(r"[^\W\d_]+", text.casefold())
    counts = {name: sum(word in common for word in words) for name, common in _COMMON_WORDS.items()}
    best = max(counts, key=counts.__getitem__)
    others = max(count for name, count in counts.items() if name != best)
    return best if counts[best] >= _ENOUGH_WORDS and counts[best] > others else None
