"""Verdicts added up by category, and how alike two pictures are."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from PIL import Image

from bot.lab.tiny.evaluate.judge import CATEGORIES, judge
from bot.lab.tiny.evaluate.prompts import Prompt

BARS: Final = {
    "colour": 95.0, "background": 95.0, "shape": 90.0, "position": 85.0, "count": 80.0,
    "text": 70.0, "hanzi": 70.0,
}  # fmt: skip
"""Least percentage of right verdicts; for text, in per cent of the judge's own score."""
_RELATIVE: Final = ("text", "hanzi")
_PEAK: Final = 255.0

Shares = dict[str, tuple[int, int]]
"""By category: verdicts that are right, and all."""


def tally(pictures: Iterable[tuple[Prompt, Image.Image]]) -> tuple[Shares, list[list[str]]]:
    """Judge pictures; return the shares, and for each picture the categories it fails."""
    right: defaultdict[str, int] = defaultdict(int)
    asked: defaultdict[str, int] = defaultdict(int)
    failed: list[list[str]] = []
    for prompt, image in pictures:
        verdicts = judge(prompt.facts, image)
        for category, verdict in verdicts.items():
            asked[category] += 1
            right[category] += verdict
        failed.append([category for category, verdict in verdicts.items() if not verdict])
    shares = {name: (right[name], asked[name]) for name in CATEGORIES if asked[name]}
    return shares, failed


def percent(share: tuple[int, int]) -> float:
    """Return a share in per cent."""
    right, asked = share
    return 100.0 * right / max(1, asked)


def reached(category: str, share: tuple[int, int], own: tuple[int, int]) -> bool | None:
    """Return whether a category reaches its bar; None where there is none."""
    if category not in BARS:
        return None
    value = percent(share)
    if category in _RELATIVE:
        value = 100.0 * value / max(1e-6, percent(own))
    return value >= BARS[category]


def table(drawn: Shares, own: Shares) -> str:
    """Return the scores as a table in Markdown: the model's, the judge's own, and the bars."""
    lines = ["| category | right | of | % | judge on renderer | bar |", "|---|---|---|---|---|---|"]
    for category, (right, asked) in drawn.items():
        ok = reached(category, (right, asked), own[category])
        bar = "" if ok is None else f"{BARS[category]:.0f} {'reached' if ok else 'missed'}"
        lines.append(
            f"| {category} | {right} | {asked} | {percent((right, asked)):.1f} "
            f"| {percent(own[category]):.1f} | {bar} |"
        )
    return "\n".join(lines)


def psnr(first: Image.Image, second: Image.Image) -> float:
    """Return the peak signal-to-noise ratio of two pictures of one size, in dB; inf if equal."""
    a, b = (np.asarray(one.convert("RGB"), np.float64) for one in (first, second))
    error = float(((a - b) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(_PEAK**2 / error)


def psnr_summary(values: Sequence[float]) -> dict[str, float]:
    """Return mean, median and minimum, in dB; equal pictures count as 99."""
    bounded = np.minimum(np.asarray(values), 99.0)
    found = {"mean": bounded.mean(), "median": np.median(bounded), "least": bounded.min()}
    return {name: round(float(value), 2) for name, value in found.items()}
