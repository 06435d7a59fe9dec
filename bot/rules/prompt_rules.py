"""Prompt rules: what a prompt may not say, decided without any other service.

A rule of words is looked for in all readings of a prompt (`spellings`), and lookalikes among its
own letters are folded too; an expression is asked of the text as it is and with them folded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import regex

from bot.errors import InvalidRequest
from bot.rules.spellings import Readings, folded, joined, letters, normalised, readings
from bot.words import _

log = logging.getLogger(__name__)

RULE_LIMIT: Final = 200
MOST_RULES: Final = 100
NEGATIVE: Final = "negative"
_SHORT: Final = 2
# A rule of an admin's must not be able to hold up everyone.
_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule ready to be asked. `folded` and what follows is None or empty for an expression."""

    plain: regex.Pattern[str]
    folded: regex.Pattern[str]
    joined: regex.Pattern[str] | None = None
    letters: str = ""
    negative: bool = False
    """Whether it is about the negative prompt."""

    def broken_by(self, text: Readings) -> bool:
        """Tell whether a text breaks it; raise TimeoutError where that takes too long."""
        if self.plain.search(text.plain, timeout=_SECONDS):
            return True
        told_apart = self.folded != self.plain or text.folded != text.plain
        if told_apart and self.folded.search(text.folded, timeout=_SECONDS):
            return True
        if self.joined is not None and any(map(self.joined.search, text.respelled)):
            return True
        return any(map(self._is_spelled_in, text.spelled_out))

    def _is_spelled_in(self, run: str) -> bool:
        # So short a word is in many rows of letters by chance.
        short = len(self.letters) <= _SHORT and self.letters.isascii()
        return bool(self.letters) and (self.letters == run if short else self.letters in run)


def checked_rule(rule: str) -> str:
    """Return a rule as it is stored: words, or a regular expression between slashes.

    With `negative:` before it, it is about the negative prompt. Raises `InvalidRequest` for one
    that cannot be compiled.
    """
    rule = rule.strip()
    if _compiled(rule) is None:
        raise InvalidRequest(_("This rule is empty, or no regular expression."))
    return rule


@lru_cache(maxsize=1024)
def _compiled(rule: str) -> _Rule | None:
    head, colon, rest = rule.partition(":")
    negative = bool(colon) and head.strip().casefold() == NEGATIVE
    if negative:
        rule = rest.strip()
    if not rule:
        return None
    try:
        if len(rule) > 2 and rule.startswith("/") and rule.endswith("/"):  # noqa: PLR2004
            expression = regex.compile(rule[1:-1], regex.IGNORECASE)
            return _Rule(expression, expression, negative=negative)
        if not (words := normalised(rule)):
            return None
        # Not a whole word: a Russian one is not meant to find an English one that looks like it.
        bare = folded(rule, words=False)
        return _Rule(_words(words), _words(bare), _words(joined(bare)), letters(bare), negative)
    except regex.error:
        return None


def _words(text: str) -> regex.Pattern[str]:
    words = regex.escape(text, literal_spaces=True)
    # Whole words, except in scripts that put no space between them.
    return regex.compile(rf"(?<![\p{{Latin}}\p{{N}}]){words}(?![\p{{Latin}}\p{{N}}])")


def broken_rule(rules: Sequence[str], prompt: str, negative: str = "") -> str | None:
    """Return the first rule that a prompt or negative prompt breaks.

    Blocking for 100 ms a rule at most. A rule that takes longer counts as broken: what it is for
    cannot be ruled out.
    """
    texts = {False: readings(prompt), True: readings(negative)}
    for rule in rules:
        compiled = _compiled(rule)
        if compiled is None:
            continue
        try:
            if compiled.broken_by(texts[compiled.negative]):
                return rule
        except TimeoutError:
            log.warning("a prompt rule took longer than %g s and counts as broken", _SECONDS)
            return rule
    return None


async def breaks_rule(rules: Sequence[str], prompt: str, negative: str = "") -> bool:
    """Tell whether a request breaks a rule, without holding up the event loop."""
    if not rules:
        return False
    return await asyncio.to_thread(broken_rule, rules, prompt, negative) is not None
