"""The canvas of drawings in ink: dark outlines and hatching on cream paper, whatever the colours.

A drawing shows how dark a colour is, not which one: light areas stay paper, darker ones are hatched
wide or narrow, and the darkest are filled. Lines are as wide, and as far apart, as the tiny VAE
can tell them from a flat tone; hatching has the period of one or two of the transformer's patches
and stands at the same place in each, so that a small network can learn it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from PIL import Image, ImageDraw

from bot.lab.tiny.train.scenes.canvas import Canvas, Point
from bot.lab.tiny.train.scenes.palette import Rgb

PAPER: Final[Rgb] = (250, 243, 224)
PEN: Final[Rgb] = (24, 30, 76)
_WIDE: Final = 32
_NARROW: Final = 16
"""Periods of the hatching across and down, in pixels: two patches of the transformer, and one."""
_HATCH: Final = 7.0
"""Width of a line of the hatching, in pixels."""
_LIGHT: Final = 195
_MIDDLE: Final = 110
_DARK: Final = 60
"""Luma (0 to 255) below which an area is hatched wide, hatched narrow, and filled."""
_THIN: Final = 0.6
"""Width of a detail's outline, as a share of the others'."""


def _luma(rgb: Rgb) -> float:
    """Return the brightness that ITU-R BT.601 gives a colour, 0 to 255."""
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


@lru_cache(maxsize=16)
def _hatching(size: tuple[int, int], period: int, scale: float) -> Image.Image:
    """Return paper of `size` hatched from lower left to upper right."""
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    width, height = size
    step = round(period * scale)
    for start in range(-height // step * step, width, step):
        draw.line((start, height, start + height, 0), fill=PEN, width=round(_HATCH * scale))
    return image


class InkCanvas(Canvas):
    """Draws everything with one pen on one paper."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(width, height, "outline")
        self._behind: Rgb = PAPER
        self._image.paste(PAPER, (0, 0, *self._image.size))

    def _colour(self, rgb: Rgb) -> Rgb:
        del rgb
        return PEN

    def fill(self, top: Rgb, bottom: Rgb | None = None) -> None:
        """Leave the background paper."""
        del bottom
        self._behind = top

    def ground(self, rgb: Rgb) -> None:
        """Remember what is behind: what is drawn in the same colour is a hole."""
        self._behind = rgb

    def polygon(self, points: Sequence[Point], rgb: Rgb) -> None:
        """Draw an outline and hatch what it holds."""
        corners = self._points(points)
        self._shade(corners, rgb, lambda draw, ink: draw.polygon(corners, fill=ink))
        self._outline(corners, self.stroke)

    def ellipse(
        self, x: float, y: float, across: float, rgb: Rgb, *, high: float | None = None
    ) -> None:
        """Draw an ellipse and hatch what it holds."""
        high = across if high is None else high
        ends = self._points([(x - across, y - high), (x + across, y + high)])
        self._shade(ends, rgb, lambda draw, ink: draw.ellipse(ends, fill=ink))
        self._draw.ellipse(ends, outline=PEN, width=round(self.stroke * self._scale))

    def line(self, points: Sequence[Point], rgb: Rgb, width: float) -> None:
        """Draw an open line, no wider than an outline."""
        super().line(points, rgb, min(width, self.stroke))

    def solid(self, points: Sequence[Point], rgb: Rgb) -> None:
        """Draw a detail: filled where it is dark, paper in a thin outline where not."""
        corners = self._points(points)
        self._draw.polygon(corners, fill=self._flat(rgb))
        self._outline(corners, _THIN * self.stroke)

    def hole(self, points: Sequence[Point], rgb: Rgb, behind: Rgb) -> None:
        """Leave paper in an outline."""
        del rgb, behind
        corners = self._points(points)
        self._draw.polygon(corners, fill=PAPER)
        self._outline(corners, self.stroke)

    def dot(self, x: float, y: float, radius: float, rgb: Rgb) -> None:
        """Draw a small circle: filled where it is dark, paper in a thin outline where not."""
        ends = self._points([(x - radius, y - radius), (x + radius, y + radius)])
        width = round(_THIN * self.stroke * self._scale)
        self._draw.ellipse(ends, fill=self._flat(rgb), outline=PEN, width=width)

    def _flat(self, rgb: Rgb) -> Rgb:
        return PEN if rgb != self._behind and _luma(rgb) < _MIDDLE else PAPER

    def _outline(self, corners: list[Point], width: float) -> None:
        ring = [*corners, corners[0], corners[1]]
        self._draw.line(ring, fill=PEN, width=round(width * self._scale), joint="curve")

    def _shade(
        self,
        points: list[Point],
        rgb: Rgb,
        shape: Callable[[ImageDraw.ImageDraw, int | Rgb], None],
    ) -> None:
        luma = _luma(rgb)
        if luma >= _LIGHT or luma < _DARK:
            shape(self._draw, PAPER if luma >= _LIGHT else PEN)
            return
        size = self._image.size
        mask = Image.new("L", size)
        shape(ImageDraw.Draw(mask), 255)
        across, down = zip(*points, strict=True)
        box = (
            max(0, int(min(across))),
            max(0, int(min(down))),
            min(size[0], int(max(across)) + 1),
            min(size[1], int(max(down)) + 1),
        )
        if box[0] < box[2] and box[1] < box[3]:
            hatching = _hatching(size, _NARROW if luma < _MIDDLE else _WIDE, self._scale)
            self._image.paste(hatching.crop(box), box[:2], mask.crop(box))
