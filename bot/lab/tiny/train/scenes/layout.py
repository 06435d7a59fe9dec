"""Layouts: scenes whose parts stand where they are told; a change leaves the rest as it is."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

from PIL import Image

from bot.lab.tiny.train.scenes.canvas import Canvas, Point
from bot.lab.tiny.train.scenes.letters import write
from bot.lab.tiny.train.scenes.palette import COLOURS, Rgb, mix
from bot.lab.tiny.train.scenes.plan import chance
from bot.lab.tiny.train.scenes.shapes import SHAPES, draw_shape
from bot.lab.tiny.train.scenes.things import THINGS, draw_thing, surround

SPOTS: Final[dict[str, Point]] = {
    "left": (0.24, 0.5),
    "right": (0.76, 0.5),
    "top": (0.5, 0.24),
    "bottom": (0.5, 0.76),
    "centre": (0.5, 0.5),
    "top left": (0.24, 0.24),
    "top right": (0.76, 0.24),
    "bottom left": (0.24, 0.76),
    "bottom right": (0.76, 0.76),
}
"""Centres that have names, as shares of the width and height."""
CORNERS: Final = ("top left", "top right", "bottom left", "bottom right")
_GROUPS: Final = (
    ("left", "right"),
    ("top", "bottom"),
    ("top left", "bottom right"),
    ("bottom left", "top right"),
    ("top", "bottom left", "bottom right"),
    ("top left", "top right", "bottom"),
    ("top left", "top right", "bottom left"),
    CORNERS,
)
_JITTER: Final = 0.015
_APART: Final = 0.02
"""Least distance of two parts' circles, as a share of the shorter side."""
_REACH: Final = 1.1
"""Forms lie within so many of their radii."""
SMALL: Final = 0.16
"""Radius of a part among others, as a share of the shorter side."""
THINGS_APART: Final = tuple(name for name in THINGS if name not in {"night", "mountain"})
"""Things that can stand anywhere."""


@dataclass(frozen=True)
class Part:
    """A shape, thing or text: centre and radius as shares of the sides (radius: the shorter)."""

    form: str
    colour: str
    x: float
    y: float
    radius: float
    text: str = ""
    face: str = ""
    other: Rgb | None = None
    """The colour that it has instead of `colour`, one without a name."""

    @property
    def rgb(self) -> Rgb:
        """The colour that it is painted in."""
        return COLOURS[self.colour].rgb if self.other is None else self.other


@dataclass(frozen=True)
class Layout:
    """A scene's parts, the last in front; no ground: the first part's own surroundings."""

    ground: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def colours(self) -> set[str]:
        """All colours that it shows by name."""
        return {*self.ground, *(part.colour for part in self.parts)}


def paint_layout(layout: Layout, width: int = 256, height: int = 256) -> Image.Image:
    """Return the picture, RGB. Two layouts differ nowhere but where their parts or grounds do."""
    canvas = Canvas(width, height)
    ground = [COLOURS[name].rgb for name in layout.ground]
    if ground:
        canvas.fill(*ground)
    else:
        surround(canvas, layout.parts[0].form)
    for part in layout.parts:
        x, y = part.x * width, part.y * height
        radius, rgb = part.radius * canvas.unit, part.rgb
        if part.text:
            write(canvas, part.face, part.text, x, y, 3 * radius, 1.8 * radius, rgb)
        elif part.form in THINGS:
            draw_thing(canvas, part.form, x, y, radius, rgb)
        else:
            draw_shape(canvas, part.form, x, y, radius, rgb, _behind(ground, part.y))
    return canvas.finish()


def _behind(ground: list[Rgb], y: float) -> Rgb:
    if not ground:
        return (255, 252, 244)
    return ground[0] if len(ground) == 1 else mix(ground[0], ground[1], min(1.0, max(0.0, y)))


def colour(rng: random.Random, taken: set[str]) -> str:
    """Return the name of a colour that is not taken."""
    return rng.choice([name for name in COLOURS if name not in taken])


def ground(rng: random.Random, taken: set[str]) -> tuple[str, ...]:
    """Return a background: white often, a gradient seldom."""
    if "white" not in taken and chance(rng, 0.25):
        return ("white",)
    first = colour(rng, taken)
    return (first, colour(rng, {*taken, first})) if chance(rng, 0.06) else (first,)


def form(rng: random.Random, taken: set[str]) -> str:
    """Return a shape, or now and then a thing, that is not taken."""
    names = THINGS_APART if chance(rng, 0.25) else tuple(SHAPES)
    return rng.choice([name for name in names if name not in taken])


def near(rng: random.Random, spot: str) -> Point:
    """Return a point near a spot."""
    x, y = SPOTS[spot]
    return x + rng.uniform(-_JITTER, _JITTER), y + rng.uniform(-_JITTER, _JITTER)


def fits(layout: Layout, part: Part) -> bool:
    """Tell whether a part is inside the picture and overlaps none of the layout's."""
    reach = _REACH * part.radius
    if not all(reach < value + 0.03 and value - 0.03 < 1 - reach for value in (part.x, part.y)):
        return False
    return all(
        math.dist((part.x, part.y), (one.x, one.y)) > reach + _REACH * one.radius + _APART
        for one in layout.parts
    )


def draw_layout(rng: random.Random, *, parts: int = 0) -> Layout:
    """Return a layout of 1 to 4 forms, no two of one form, or with `parts` of so many."""
    count = parts or rng.choices((1, 2, 3, 4), (45, 30, 15, 10))[0]
    if count == 1:
        return _single(rng)
    spots = rng.choice([group for group in _GROUPS if len(group) == count])
    radius = rng.uniform(0.95, 1.1) * SMALL
    found: list[Part] = []
    for spot in spots:
        name = form(rng, {part.form for part in found})
        found.append(Part(name, rng.choice(tuple(COLOURS)), *near(rng, spot), radius))
    taken = {part.colour for part in found}
    return Layout(ground(rng, taken), tuple(found))


def _single(rng: random.Random) -> Layout:
    if chance(rng, 0.08):  # a thing in its surroundings
        name = rng.choice(THINGS_APART)
        part = Part(name, rng.choice(THINGS[name].colours), *near(rng, "centre"), 0.36)
        return Layout((), (part,))
    name, tone = form(rng, set()), rng.choice(tuple(COLOURS))
    spot, radius = "centre", rng.uniform(0.15, 0.36)
    if chance(rng, 0.4):
        spot, radius = rng.choice(tuple(SPOTS)), rng.uniform(0.13, 0.2)
    return Layout(ground(rng, {tone}), (Part(name, tone, *near(rng, spot), radius),))
