"""Prompt rules: what a prompt may not say, decided without any other service."""

from __future__ import annotations

import asyncio
import logging
import unicodedata
from collections.abc import Sequence
from typing import Final

import regex

from bot.errors import InvalidRequest
from bot.words import _

log = logging.getLogger(__name__)

RULE_LIMIT: Final = 200
MOST_RULES: Final = 100
# A rule of an admin's must not be able to hold up everyone.
_SECONDS: Final = 0.05


def normalised(text: str) -> str:
    """Return text as rules see it: compatibility forms, case and invisible marks taken away."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    seen = "".join(c for c in apart if unicodedata.category(c) not in {"Cf", "Mn", "Me"})
    return " ".join(unicodedata.normalize("NFKC", seen).casefold().split())


def checked_rule(rule: str) -> str:
    """Return a rule as it is stored: words, or a regular expression between slashes.

    Raises `InvalidRequest` for one that cannot be compiled.
    """
    rule = rule.strip()
    if not rule or not _pattern(rule):
        raise InvalidRequest(_("This rule is empty, or no regular expression."))
    return rule


def _pattern(rule: str) -> regex.Pattern[str] | None:
    try:
        if len(rule) > 2 and rule.startswith("/") and rule.endswith("/"):  # noqa: PLR2004
            return regex.compile(rule[1:-1], regex.IGNORECASE)
        words = regex.escape(normalised(rule), literal_spaces=True)
        # Whole words, except in scripts that put no space between them.
        return regex.compile(rf"(?<![\p{{Latin}}\p{{N}}]){words}(?![\p{{Latin}}\p{{N}}])")
    except regex.error:
        return None


def broken_rule(rules: Sequence[str], text: str) -> str | None:
    """Return the first rule that a text breaks. Blocking for 50 ms a rule at most.

    A rule that takes longer counts as broken: what it is for cannot be ruled out.
    """
    plain = normalised(text)
    for rule in rules:
        pattern = _pattern(rule)
        if pattern is None:
            continue
        try:
            if pattern.search(plain, timeout=_SECONDS):
                return rule
        except TimeoutError:
            log.warning("a prompt rule took longer than %g s and counts as broken", _SECONDS)
            return rule
    return None


async def breaks_rule(rules: Sequence[str], text: str) -> bool:
    """Tell whether a text breaks a rule, without holding up the event loop."""
    return bool(rules) and await asyncio.to_thread(broken_rule, rules, text) is not None
