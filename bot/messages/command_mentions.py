"""Command mentions: the commands that sentences name, as Discord makes them clickable.

A sentence names a command as `/name` or /name. Where the command's id is known that becomes
`</name:id>` (https://docs.discord.com/developers/reference, "Message Formatting"); else, and where
Discord does not show the sentence, it stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from bot.words import _, language, speaking

_ids: Final[dict[str, int]] = {}
"""The ids of the process's one bot, by the commands' full names."""


def learn(ids: Mapping[str, int]) -> None:
    """Take the ids of commands by their full names (`admin engine resume`) for those known so far.

    A subcommand has its command's id.
    """
    _ids.clear()
    _ids.update(ids)
    _pattern.cache_clear()


def linked(sentence: str) -> str:
    """Return a sentence of ours with its commands as mentions.

    What users typed is put in afterwards: a prompt that names a command is not clickable.
    """
    if "/" not in sentence or not _ids:
        return sentence
    pattern, names = _pattern(language())

    def mention(match: re.Match[str]) -> str:
        name = names[match[1] or match[2]]
        return f"</{name}:{_ids[name]}>"

    return pattern.sub(mention, sentence)


@lru_cache(maxsize=8)
def _pattern(locale: str) -> tuple[re.Pattern[str], dict[str, str]]:
    """Return what finds the commands in sentences of a language, and their full names by that."""
    names: dict[str, str] = {}
    with speaking(locale):
        for name in _ids:
            names[name] = name
            names[" ".join(_translated(part) for part in name.split())] = name
    longest_first = sorted(names, key=len, reverse=True)
    known = "|".join(map(re.escape, longest_first))
    # Not within an address, and not a command in a code span that goes on with its options.
    plain = rf"(?<![`\w/<.:])/({known})(?![A-Za-z0-9_/:-])"
    return re.compile(rf"`/({known})`|{plain}"), names


def _translated(part: str) -> str:
    key = f"/{part}"
    return _(key).removeprefix("/")
