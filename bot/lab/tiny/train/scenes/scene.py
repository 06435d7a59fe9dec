"""Scenes: a plan made into a captioned picture, with the facts that a judge checks."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from bot.lab.tiny.train.scenes.canvas import Canvas, Point
from bot.lab.tiny.train.scenes.captions import caption
from bot.lab.tiny.train.scenes.ink import InkCanvas
from bot.lab.tiny.train.scenes.letters import write
from bot.lab.tiny.train.scenes.palette import COLOURS, Rgb, mix
from bot.lab.tiny.train.scenes.plan import Plan, draw_plan
from bot.lab.tiny.train.scenes.shapes import draw_shape
from bot.lab.tiny.train.scenes.things import draw_thing, surround

_RADIUS: Final = {"small": 0.15, "": 0.28, "big": 0.41}
"""Of the shorter side."""
_JITTER: Final = 0.02
# Centres as shares of the width and height.
_SPOTS: Final[dict[str, tuple[Point, ...]]] = {
    "": ((0.5, 0.5),),
    "left": ((0.25, 0.5), (0.75, 0.5)),
    "right": ((0.75, 0.5), (0.25, 0.5)),
    "above": ((0.5, 0.25), (0.5, 0.75)),
    "below": ((0.5, 0.75), (0.5, 0.25)),
    "inside": ((0.5, 0.5), (0.5, 0.5)),
    "top": ((0.5, 0.23),),
    "bottom": ((0.5, 0.77),),
}
_COUNTED: Final[dict[int, tuple[Point, ...]]] = {
    2: ((0.27, 0.5), (0.73, 0.5)),
    3: ((0.5, 0.27), (0.27, 0.73), (0.73, 0.73)),
    4: ((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)),
}
_COUNTED_RADIUS: Final = {2: 0.18, 3: 0.17, 4: 0.17}
_CANVASES: Final = {"ink": InkCanvas}
DRAWN_STYLES: Final = tuple(_CANVASES)
"""Styles of a whole model, which no caption names (`python -m bot.lab.tiny.train --style`)."""


@dataclass(frozen=True)
class Scene:
    """A picture (RGB) with its caption; `facts` holds what the caption says, for a judge."""

    caption: str
    facts: Mapping[str, Any]
    picture: Image.Image


def facts_of(plan: Plan) -> dict[str, Any]:
    """Return what the caption of a plan says, as JSON values; what it leaves out is absent."""
    facts: dict[str, Any] = {"kind": plan.kind, "style": plan.style}
    said = {"size": plan.size, "place": plan.place, "relation": plan.relation, "text": plan.text}
    facts |= {name: value for name, value in said.items() if value}
    with_colour = "colour" not in plan.unsaid
    if plan.subjects:
        facts["count"] = plan.count
        facts["subjects"] = [
            {"form": one.form} | ({"colour": one.colour} if with_colour else {})
            for one in plan.subjects
        ]
    elif with_colour:
        facts["colour"] = plan.colour
    if plan.ground and "ground" not in plan.unsaid:
        facts["background"] = list(plan.ground)
    return facts


class _Painter:
    """Draws one plan; small random shifts make two pictures of it differ."""

    def __init__(self, rng: random.Random, plan: Plan, canvas: Canvas) -> None:
        self.rng, self.plan, self.canvas = rng, plan, canvas
        self.ground = [COLOURS[name].rgb for name in plan.ground]

    def _near(self, spot: Point, jitter: float = _JITTER) -> Point:
        shift = jitter * self.canvas.unit
        x = spot[0] * self.canvas.width + self.rng.uniform(-shift, shift)
        return x, spot[1] * self.canvas.height + self.rng.uniform(-shift, shift)

    def _radius(self, share: float) -> float:
        return share * self.canvas.unit * self.rng.uniform(0.93, 1.07)

    def _behind(self, y: float) -> Rgb:
        if len(self.ground) == 1:
            return self.ground[0]
        return mix(self.ground[0], self.ground[1], min(1.0, max(0.0, y / self.canvas.height)))

    def paint(self) -> Image.Image:
        """Return the picture."""
        plan, canvas = self.plan, self.canvas
        if self.ground:
            canvas.fill(*self.ground)
        else:
            surround(canvas, plan.subjects[0].form)
        if plan.text:
            self._text()
        elif plan.kind == "thing":
            self._thing()
        elif plan.relation == "inside":
            self._inside()
        else:
            self._shapes()
        return canvas.finish()

    def _text(self) -> None:
        plan, canvas = self.plan, self.canvas
        x, y = self._near((0.5, 0.5))
        grow = self.rng.uniform(0.92, 1.04)
        width, height = 0.84 * canvas.width * grow, 0.5 * canvas.height * grow
        if plan.kind == "hanzi" and len(plan.text) == 1:
            width, height = (0.7 * canvas.unit * grow,) * 2
        write(canvas, plan.face, plan.text, x, y, width, height, COLOURS[plan.colour].rgb)

    def _thing(self) -> None:
        [subject] = self.plan.subjects
        x, y = self._near((0.5, 0.5))
        radius = self._radius(0.36)
        self.canvas.ground(self._behind(y) if self.ground else (255, 252, 244))
        draw_thing(self.canvas, subject.form, x, y, radius, COLOURS[subject.colour].rgb)

    def _inside(self) -> None:
        inner, outer = self.plan.subjects
        x, y = self._near((0.5, 0.5))
        colour = COLOURS[outer.colour].rgb
        radius = self._radius(0.41)
        draw_shape(self.canvas, outer.form, x, y, radius, colour, self._behind(y))
        draw_shape(self.canvas, inner.form, x, y, 0.4 * radius, COLOURS[inner.colour].rgb, colour)

    def _shapes(self) -> None:
        plan = self.plan
        if plan.count > 1:
            spots, share = _COUNTED[plan.count], _COUNTED_RADIUS[plan.count]
            subjects = plan.subjects * plan.count
        else:
            spots = _SPOTS[plan.relation or plan.place]
            share = 0.19 if plan.relation or plan.place else _RADIUS[plan.size]
            subjects = plan.subjects
        radius = self._radius(share)
        for subject, spot in zip(subjects, spots, strict=False):
            x, y = self._near(spot)
            colour = COLOURS[subject.colour].rgb
            draw_shape(self.canvas, subject.form, x, y, radius, colour, self._behind(y))


def paint(
    rng: random.Random, plan: Plan, width: int = 256, height: int = 256, *, style: str = ""
) -> Image.Image:
    """Return a picture of the plan, RGB, width x height; `style` as in `draw_scene`."""
    canvas = _CANVASES[style](width, height) if style else Canvas(width, height, plan.style)
    return _Painter(rng, plan, canvas).paint()


def draw_scene(
    rng: random.Random,
    width: int = 256,
    height: int = 256,
    *,
    holdout: bool = False,
    kind: str | None = None,
    style: str = "",
) -> Scene:
    """Return a captioned picture of width x height pixels; the same `rng` state, the same scene.

    Args:
        rng: the only source of randomness.
        width: in pixels, a multiple of 16.
        height: in pixels, a multiple of 16.
        holdout: draw only combinations and texts that are never drawn without it.
        kind: one of `plan.KINDS`; by default drawn by their weights.
        style: one of `DRAWN_STYLES`, in which everything is drawn, whatever the caption says of
            colours and styles; by default what it says.
    """
    plan = draw_plan(rng, holdout=holdout, kind=kind)
    said = caption(rng, plan)
    return Scene(said, facts_of(plan), paint(rng, plan, width, height, style=style))
