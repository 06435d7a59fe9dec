"""The script and language of a text, and its words that say something, as far as they show."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Final

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
# Of any picture and any answer: they are no sign that two texts are about one thing.
_OF_ANY_PICTURE: Final = (
    "not but you your its for was has have can will would could should there here into onto over "
    "under very some any all please make image picture photo prompt"
)
_SAYING_NOTHING: Final = frozenset(" ".join((*_COMMON.values(), _OF_ANY_PICTURE)).split())
_COMMONEST_CHARACTERS: Final = frozenset(
    "的一是不了在有我你他她它这那个们中上下和与及着过到来去也都就要会能以为对从被把张幅图画请片"
)
_SCRIPTS: Final = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "LATIN", "CYRILLIC", "ARABIC", "GREEK")
_OTHERS: Final = ("HEBREW", "THAI", "DEVANAGARI")
_JAPANESE: Final = ("HIRAGANA", "KATAKANA")
# Where a word begins as it does in another form of it, so that its beginning is known again.
_ENDINGS_CHANGE: Final = {"LATIN", "CYRILLIC", "GREEK"}
_SHORTEST_WORD: Final = 3
_BEGINNING: Final = 4
_WORD: Final = re.compile(r"[^\W\d_]+")
_ENOUGH_CONTENT: Final = 2
"""Content words of a prompt whose loss as a whole is no matter of synonyms: a rewriter is told to
keep every subject and colour. Of one word there may be another (car, automobile)."""


@lru_cache(maxsize=4096)
def script_of(character: str) -> str | None:
    """Return the script of a letter."""
    if not character.isalpha():
        return None
    name = unicodedata.name(character, "")
    return next((script for script in (*_SCRIPTS, *_OTHERS) if name.startswith(script)), None)


def same_language(said: str, now: str) -> bool:
    """Tell whether a rewrite is in the language of a prompt, as far as the two show it.

    Most prompts are too short to show theirs. Where one does not, and the rewrite is in another
    language than English, it was written in that if half of its own words are there.
    """
    script, other = _script(said), _script(now)
    if script is None or other is None:
        return True
    if script != other:
        return False
    language, written = _language(said), _language(now)
    if language is not None or written in {None, "en"}:
        return language is None or written in {None, language}
    words = _content(said)
    return len(_shared(words, _content(now))) * 2 >= len(words)


def shares_nothing(said: str, now: str) -> bool:
    """Tell whether a rewrite has none of the words that say something in a prompt.

    For texts in the same script; of Chinese, and of Japanese, none of the characters.
    """
    script = _script(said)
    if script != _script(now):
        return False
    if script in {"CJK", "JAPANESE"}:
        asked = {c for c in said if script_of(c) == "CJK"} - _COMMONEST_CHARACTERS
        return len(asked) >= _ENOUGH_CONTENT and asked.isdisjoint(now)
    if script not in _ENDINGS_CHANGE:
        return False
    words = _content(said)
    return len(words) >= _ENOUGH_CONTENT and not _shared(words, _content(now))


def _content(text: str) -> set[str]:
    """Return the words of a text that say something, without accents."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in apart if not unicodedata.combining(c))
    return {
        word
        for word in _WORD.findall(plain)
        if len(word) >= _SHORTEST_WORD and word not in _SAYING_NOTHING
    }


def _shared(words: set[str], others: set[str]) -> set[str]:
    """Return the words that are among the others, in whatever form: cat, cats; forest, forests."""
    beginnings = {word[:_BEGINNING] for word in others}
    short = {word[:_SHORTEST_WORD] for word in others}
    return {
        word
        for word in words
        if word[:_BEGINNING] in beginnings
        or word[:_SHORTEST_WORD] in others
        or (len(word) == _SHORTEST_WORD and word in short)
    }


def _script(text: str) -> str | None:
    """Return the script of most letters of a text; Japanese is known by its syllables."""
    found = Counter(filter(None, map(script_of, text)))
    if not found:
        return None
    if any(script in found for script in _JAPANESE):
        return "JAPANESE"
    # A word of Latin letters has several where Chinese has one character.
    found["CJK"] *= 3
    return found.most_common(1)[0][0]


def _language(text: str) -> str | None:
    """Return the language whose common words a text has most of; None where that says nothing."""
    words = _WORD.findall(text.casefold())
    counts = {name: sum(word in common for word in words) for name, common in _COMMON_WORDS.items()}
    best = max(counts, key=counts.__getitem__)
    others = max(count for name, count in counts.items() if name != best)
    return best if counts[best] >= _ENOUGH_WORDS and counts[best] > others else None
