"""Shapes and things recognised from masks, by the renderer's own, drawn and cut out alike."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Final

import numpy as np

from bot.lab.tiny.evaluate.pixels import Floats, Mask, View, components, crop, filled, holes
from bot.lab.tiny.train.scenes.plan import Plan, Subject
from bot.lab.tiny.train.scenes.scene import paint
from bot.lab.tiny.train.scenes.shapes import SHAPES
from bot.lab.tiny.train.scenes.things import THINGS

_SIZE: Final = 40
_LIKE: Final = 0.68
"""Least overlap (intersection over union) with the best template."""
_SPECK: Final = 0.002
"""Parts below this share of the picture are noise."""
_DENSE: Final = 0.55
"""Least share of a form, its holes filled, that is its colour; a ring has 0.7."""
_DRAWN: Final = 3
"""Templates of each shape: in the pixel style, no two drawings are the same."""
_HOLE: Final = 0.02
"""Least size of a true hole, as a share of the filled shape."""


def overlap(first: Floats, second: Floats) -> float:
    """Return the intersection over union of two soft masks."""
    return float(
        np.minimum(first, second).sum() / max(1e-6, float(np.maximum(first, second).sum()))
    )


def parts(mask: Mask, *, least: float = 0.3) -> list[Mask]:
    """Return the parts that matter: no specks, and at least `least` of the largest."""
    found = components(mask)
    if not found:
        return []
    floor = max(least * float(found[0].sum()), _SPECK * mask.size)
    return [part for part in found if part.sum() >= floor]


def outlined(mask: Mask) -> list[Mask]:
    """Return the parts of an outline drawing; what lies within another part belongs to it."""
    found = parts(mask, least=0.1)
    outer: list[tuple[Mask, Mask]] = []
    for part in found:
        for index, (whole, inside) in enumerate(outer):
            if not (part & ~inside).any():
                outer[index] = whole | part, inside
                break
        else:
            outer.append((part, filled(part)))
    return [whole for whole, _ in outer]


def _solid(mask: Mask, style: str) -> tuple[Floats, bool]:
    """Return the crop of a form as filled, and whether it has a hole of its own."""
    whole = filled(mask)
    least = _HOLE * float(whole.sum())
    true_holes = sum(float(hole.sum()) > least for hole in holes(mask))
    # An outline always encloses one; a ring's encloses two.
    return crop(whole, _SIZE, stretched=False), true_holes > (1 if style == "outline" else 0)


@lru_cache
def _shape_templates(style: str) -> list[tuple[str, Floats, bool]]:
    found: list[tuple[str, Floats, bool]] = []
    for name in SHAPES:
        plan = Plan("shape", (Subject(name, "black"),), ("white",), style=style)
        for seed in range(_DRAWN):
            view = View.of(paint(random.Random(seed), plan), style)  # noqa: S311 - a drawing
            found.append((name, *_solid(view.foreground, style)))
    return found


def shape_of(mask: Mask, style: str) -> str:
    """Return the name of the shape that a mask has; empty when it is like none."""
    sparse = style != "outline" and mask.sum() < _DENSE * filled(mask).sum()
    if sparse or not mask.any():
        return ""
    crop_, hollow = _solid(mask, style)
    scored = [
        (overlap(crop_, template), name)
        for name, template, with_hole in _shape_templates(style)
        if with_hole == hollow
    ]
    score, name = max(scored, default=(0.0, ""))
    return name if score >= _LIKE else ""


def _silhouette(view: View) -> Floats | None:
    kept = np.zeros_like(view.foreground)
    for part in parts(view.foreground, least=0.02):
        kept |= part
    return crop(filled(kept), _SIZE, stretched=False) if kept.any() else None


@lru_cache
def _thing_templates(style: str) -> list[tuple[str, Floats]]:
    found: list[tuple[str, Floats]] = []
    for name, thing in THINGS.items():
        for ground in ((), ("white",), ("black",), ("blue",)):
            plan = Plan("thing", (Subject(name, thing.colours[0]),), ground, style=style)
            picture = paint(random.Random(0), plan)  # noqa: S311 - a drawing
            crop_ = _silhouette(View.of(picture, style))
            if crop_ is not None:
                found.append((name, crop_))
    return found


def thing_of(view: View, style: str) -> str:
    """Return the thing that a picture shows, by its silhouette; empty when it is like none."""
    silhouette = _silhouette(view)
    if silhouette is None:
        return ""
    scored = [(overlap(silhouette, one), name) for name, one in _thing_templates(style)]
    score, name = max(scored)
    return name if score >= _LIKE - 0.12 else ""
