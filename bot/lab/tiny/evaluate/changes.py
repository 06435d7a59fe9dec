"""Held-out instructions, and verdicts on what became of a picture."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from PIL import Image

from bot.lab.tiny.evaluate import forms, reading
from bot.lab.tiny.evaluate.pixels import Mask, View, named
from bot.lab.tiny.train.scenes.edits import Change, draw_change
from bot.lab.tiny.train.scenes.instructions import instruction
from bot.lab.tiny.train.scenes.layout import Layout, Part, paint_layout
from bot.lab.tiny.train.scenes.letters import CHINESE
from bot.lab.tiny.train.scenes.shapes import SHAPES

BARS: Final = {
    "recolour": 95.0, "background": 95.0, "add": 85.0, "remove": 85.0, "replace": 85.0,
    "move": 80.0, "resize": 80.0, "word": 65.0, "colour of": None, "background of": None,
}  # fmt: skip
"""Least percentage of right edits of each kind."""
UNTOUCHED_DB: Final = 28.0
"""Least mean PSNR of what an instruction leaves as it was, against the source."""
MOST: Final = 500
_SEED: Final = 20250806
_SHARES: Final = {
    "recolour": 14, "background": 12, "add": 13, "remove": 11, "replace": 12, "move": 11,
    "resize": 10, "word": 10, "colour of": 4, "background of": 3,
}  # fmt: skip
"""Instructions of each kind in a hundred."""
_LETTERS: Final = 3
_AGREES: Final = 0.75
"""Least share of what changes that must have the target's named colours."""
_LIKE: Final = 0.6
"""Least overlap of a thing with the renderer's own."""
_SOFT: Final = 3
"""Pixels around an edge that are not judged: the antialiased ones, and the VAE's blur."""
_MARGIN: Final = 10
"""Pixels around what changes that need not stay as they were."""
_GREY: Final = 24


@dataclass(frozen=True)
class Case:
    """A held-out change, its instruction and its picture's seed; `number` names its file."""

    number: int
    change: Change
    instruction: str
    seed: int


class Verdict(NamedTuple):
    """Whether what was asked for is there, and the PSNR in dB of the rest (None: all changes)."""

    right: bool
    untouched: float | None


def held_out_changes(count: int = MOST) -> list[Case]:
    """Return the first `count` held-out changes, always the same; kinds are mixed evenly."""
    rng = random.Random(_SEED)  # noqa: S311 - pictures, not secrets
    kinds = [kind for kind, share in _SHARES.items() for _ in range(share)]
    rng.shuffle(kinds)
    found: list[Case] = []
    while len(found) < count:
        change = draw_change(rng, holdout=True, kind=kinds[len(found) % len(kinds)])
        text = instruction(rng, change)
        if change.kind == "word" and not _judged(change.new):
            continue
        found.append(Case(len(found), change, text, _SEED + len(found)))
    return found


def _judged(part: Part | None) -> bool:
    """As of the drawn texts, three Latin letters are what is judged."""
    latin = part is not None and part.face not in CHINESE
    return part is not None and latin and len(part.text) == _LETTERS and part.text.isalpha()


def _pixels(image: Image.Image) -> Any:
    return np.asarray(image.convert("RGB"), np.float32)


def _grown(mask: Mask, by: int) -> Mask:
    """Return a mask with all that lies within `by` pixels of it along the axes."""
    out = mask.copy()
    for axis in (0, 1):
        wide = out.copy()
        for step in range(1, by + 1):
            for way in (step, -step):
                moved = np.roll(out, way, axis)
                edge = [slice(None), slice(None)]
                edge[axis] = slice(0, step) if way > 0 else slice(-step, None)
                moved[tuple(edge)] = False
                wide |= moved
        out = wide
    return out


def _shown(layout: Layout, part: Part) -> Mask:
    """Return where a part is seen in its layout."""
    kept = tuple(one for one in layout.parts if one is not part)
    without = Layout(layout.ground, kept) if kept or layout.ground else Layout(("white",), ())
    other = _pixels(paint_layout(without))
    return np.abs(_pixels(paint_layout(layout)) - other).max(-1) > _GREY


def _agreement(got: Any, wanted: Any, changed: Mask) -> float:
    """Return the share of `changed` in which two pictures have the same named colours."""
    names, others = named(got, "flat"), named(wanted, "flat")
    # Edges between two colours have names of neither.
    edge = np.zeros_like(changed)
    for axis in (0, 1):
        edge |= others != np.roll(others, 1, axis)
    inside = changed & ~_grown(edge, _SOFT)
    if not inside.any():
        inside = changed
    return float((names == others)[inside].mean())


def judge_change(case: Case, image: Image.Image) -> Verdict:
    """Return the verdict on what an instruction made of a picture (256x256)."""
    change = case.change
    before, after, got = (
        _pixels(one)
        for one in (paint_layout(change.sources[0]), paint_layout(change.target), image)
    )
    changed = np.abs(before - after).max(-1) > 0
    rest = ~_grown(changed, _MARGIN)
    untouched = None
    if rest.any():
        error = float(((got - before) ** 2)[rest].mean())
        untouched = math.inf if error == 0 else 10 * math.log10(255**2 / error)
    if change.kind == "word":
        assert change.new is not None
        text = change.new.text
        return Verdict(reading.read_line(View.of(image), digits=text.isdigit()) == text, untouched)
    right = _agreement(got, after, changed) >= _AGREES
    if right and change.kind in {"add", "replace", "move", "resize"} and change.new is not None:
        right = _is_form(change, change.new, got, after)
    return Verdict(right, untouched)


def _is_form(change: Change, part: Part, got: Any, after: Any) -> bool:
    """Tell whether a part has its form, by its silhouette in its colour."""
    where = _grown(_shown(change.target, part), _MARGIN)
    wanted = named(after, "flat")
    names = np.where(where, named(got, "flat"), -1)
    of_part = np.where(where, wanted, -1)
    shown = _shown(change.target, part)
    colour = np.bincount(of_part[shown & (of_part >= 0)]).argmax()
    mask = names == colour
    if part.form in SHAPES:
        found = forms.parts(mask)
        return bool(found) and forms.shape_of(found[0], "flat") == part.form
    model = (of_part == colour) & shown
    both = float((mask & model).sum())
    return both >= _LIKE * float((mask | model).sum())


class Tally(NamedTuple):
    """Right and all by kind, the mean of untouched dB, and the instructions that failed."""

    shares: dict[str, tuple[int, int]]
    untouched_db: float
    failed: list[str]


def tally_changes(pictures: Iterable[tuple[Case, Image.Image]]) -> Tally:
    """Judge pictures of cases; equal pictures count as 99 dB."""
    right: defaultdict[str, int] = defaultdict(int)
    asked: defaultdict[str, int] = defaultdict(int)
    values: list[float] = []
    failed: list[str] = []
    for case, image in pictures:
        verdict = judge_change(case, image)
        kind = case.change.kind
        asked[kind] += 1
        right[kind] += verdict.right
        if verdict.untouched is not None:
            values.append(min(99.0, verdict.untouched))
        if not verdict.right:
            failed.append(f"{kind}: {case.instruction}")
    shares = {kind: (right[kind], asked[kind]) for kind in _SHARES if asked[kind]}
    return Tally(shares, round(float(np.mean(values)), 2) if values else math.nan, failed)
