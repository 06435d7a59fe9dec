"""Midjourney's flags in a prompt: `--ar`, `--no`, `--seed` and `--draft` are read, others left out.

Their names and values: https://docs.midjourney.com/hc/en-us/articles/32859204029709-Parameter-List
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from bot.catalogue.models import ModelSpec
from bot.domain.request import SEED_LIMIT
from bot.jobs.compose import Asked, nearest_shape

# Phones make one dash of two.
_FLAG: Final = re.compile(r"(?<!\S)(?:--|—)(?P<name>[A-Za-z]+)(?!\S)")
# Words that are to be written in the picture may look like anything.
_QUOTED: Final = re.compile(r'"[^"]*"|“[^”]*”|「[^」]*」')
_WORD: Final = r"\s+(?!--|—)\S+"
_ADDRESSES: Final = rf"(?:\s+https?://\S+)+|{_WORD}"
# What each flag takes after its name.
_VALUES: Final = {
    **dict.fromkeys(("ar", "aspect"), r"\s+(?P<w>[1-9]\d{0,3}):(?P<h>[1-9]\d{0,3})(?!\S)"),
    "seed": r"\s+(?P<seed>\d{1,16})(?!\S)",
    "no": r"\s+(?P<no>\S[\s\S]*)",
    **dict.fromkeys(("draft", "tile", "fast", "relax", "turbo", "raw", "video", "hd"), ""),
    **dict.fromkeys(
        (
            *("v", "version", "niji", "s", "stylize", "c", "chaos", "q", "quality", "w", "weird"),
            *("style", "iw", "sw", "cw", "ow", "sv", "stop", "r", "repeat", "exp", "motion"),
        ),
        _WORD,
    ),
    **dict.fromkeys(("sref", "cref", "oref", "p", "profile"), _ADDRESSES),
}
_READ: Final = frozenset({"ar", "aspect", "seed", "no", "draft"})


def read_flags(asked: Asked, model: ModelSpec) -> tuple[Asked, tuple[str, ...]]:
    """Return what was asked with the flags of its prompt read, and those that nothing reads.

    Neither are drawn as words. Of shapes the model's nearest is taken. What an option says counts
    before a flag, except that both say together what is not to be shown.
    """
    prompt = asked.prompt
    quoted = [match.span() for match in _QUOTED.finditer(prompt)]
    found = [
        match
        for match in _FLAG.finditer(prompt)
        if match["name"].lower() in _VALUES
        and not any(start < match.start() < end for start, end in quoted)
    ]
    if not found:
        return asked, ()
    ends = [*(match.start() for match in found[1:]), len(prompt)]
    pieces, read, unread = [prompt[: found[0].start()]], list[str](), list[str]()
    for flag, end in zip(found, ends, strict=True):
        name, rest = flag["name"].lower(), prompt[flag.end() : end]
        value = re.match(_VALUES[name], rest)
        pieces.append(rest if value is None else rest[value.end() :])
        text = f"--{name}{value[0].rstrip() if value else ''}"
        taken = None if value is None or name not in _READ else _taken(asked, name, value, model)
        if taken is None:
            unread.append(text)
        else:
            asked = taken
            read.append(text)
    words = " ".join(piece.strip() for piece in pieces if piece.strip())
    return replace(asked, prompt=words, flags=" ".join(read)), tuple(unread)


def _taken(asked: Asked, name: str, value: re.Match[str], model: ModelSpec) -> Asked | None:
    """Return what was asked with one flag more; None where it cannot be, or an option says it."""
    if name == "no":
        text = value["no"].strip().strip(",")
        return replace(asked, negative=f"{asked.negative}, {text}" if asked.negative else text)
    if name == "draft":
        return replace(asked, draft=True)
    if name == "seed":
        fits = asked.seed is None and int(value["seed"]) < SEED_LIMIT
        return replace(asked, seed=int(value["seed"])) if fits else None
    if asked.aspect is not None:
        return None
    return replace(asked, aspect=nearest_shape((int(value["w"]), int(value["h"])), model.sizes))
