"""Canvas of one picture: final coordinates, drawn at twice the size, in one of four styles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from bot.lab.tiny.train.scenes.palette import Rgb, pastel

Point = tuple[float, float]
FontAt = Callable[[int], ImageFont.FreeTypeFont]
"""Returns a font at a size in pixels to the em."""

_OVERSAMPLED: Final = 2
_SIZES_APART: Final = 4
PIXEL: Final = 8
"""Edge of one block of the pixel style, in pixels: the VAE's own scale."""
STYLES: Final = ("flat", "outline", "pixel", "pastel")


class Canvas:
    """Draws in the picture's own coordinates, whatever its style makes of size and colour."""

    def __init__(self, width: int, height: int, style: str = "flat") -> None:
        self.width, self.height, self.style = width, height, style
        self.unit: Final = min(width, height)
        self._scale = 1 / PIXEL if style == "pixel" else _OVERSAMPLED
        size = round(width * self._scale), round(height * self._scale)
        self._image = Image.new("RGB", size)
        self._draw = ImageDraw.Draw(self._image)
        self._ground: Rgb = (255, 255, 255)

    def _colour(self, rgb: Rgb) -> Rgb:
        return pastel(rgb) if self.style == "pastel" else rgb

    def _points(self, points: Sequence[Point]) -> list[Point]:
        if self.style == "pixel":  # pixel centres, so that symmetric outlines stay symmetric
            return [(x * self._scale - 0.5, y * self._scale - 0.5) for x, y in points]
        return [(x * self._scale, y * self._scale) for x, y in points]

    @property
    def stroke(self) -> float:
        """Width of an outline, in pixels."""
        return max(6.0, 0.028 * self.unit)

    def fill(self, top: Rgb, bottom: Rgb | None = None) -> None:
        """Paint the background: one colour, or a vertical gradient between two."""
        self._ground = self._colour(top)
        width, height = self._image.size
        if bottom is None:
            self._draw.rectangle((0, 0, width, height), fill=self._ground)
            return
        end = self._colour(bottom)
        rows = bytes(
            round(a + (b - a) * y / (height - 1))
            for y in range(height)
            for a, b in zip(self._ground, end, strict=True)
        )
        self._image.paste(Image.frombytes("RGB", (1, height), rows).resize((width, height)))

    def ground(self, rgb: Rgb) -> None:
        """Say which colour is behind what follows; an outline is filled with it."""
        self._ground = self._colour(rgb)

    def polygon(self, points: Sequence[Point], rgb: Rgb) -> None:
        """Draw a closed outline of 3 points or more."""
        corners = self._points(points)
        if self.style == "outline":
            self._draw.polygon(corners, fill=self._ground)
            ring = [*corners, corners[0], corners[1]]
            width = round(self.stroke * self._scale)
            self._draw.line(ring, fill=self._colour(rgb), width=width, joint="curve")
        else:
            self._draw.polygon(corners, fill=self._colour(rgb))

    def ellipse(
        self, x: float, y: float, across: float, rgb: Rgb, *, high: float | None = None
    ) -> None:
        """Draw an ellipse around (x, y) with these radii in pixels."""
        high = across if high is None else high
        ends = self._points([(x - across, y - high), (x + across, y + high)])
        if self.style == "outline":
            width = round(self.stroke * self._scale)
            self._draw.ellipse(ends, fill=self._ground, outline=self._colour(rgb), width=width)
        else:
            self._draw.ellipse(ends, fill=self._colour(rgb))

    def rectangle(self, left: float, top: float, right: float, bottom: float, rgb: Rgb) -> None:
        """Draw an upright rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], rgb)

    def line(self, points: Sequence[Point], rgb: Rgb, width: float) -> None:
        """Draw an open line, `width` in pixels."""
        scaled = max(1, round(width * self._scale))
        self._draw.line(self._points(points), fill=self._colour(rgb), width=scaled, joint="curve")

    def solid(self, points: Sequence[Point], rgb: Rgb) -> None:
        """Fill an outline in every style (eyes, windows, and the hole of a ring)."""
        self._draw.polygon(self._points(points), fill=self._colour(rgb))

    def hole(self, points: Sequence[Point], rgb: Rgb, behind: Rgb) -> None:
        """Show `behind` through an area that was drawn in `rgb`."""
        if self.style == "outline":
            self.polygon(points, rgb)
        else:
            self.solid(points, behind)

    def dot(self, x: float, y: float, radius: float, rgb: Rgb) -> None:
        """Fill a small circle in every style."""
        ends = self._points([(x - radius, y - radius), (x + radius, y + radius)])
        self._draw.ellipse(ends, fill=self._colour(rgb))

    def character(self, at: Point, character: str, face: FontAt, em: float, rgb: Rgb) -> None:
        """Write a character with its origin (left, ascender) at a point, `em` pixels to the em."""
        # Few sizes, so that fonts are kept; rounded down, so that letters stay apart.
        size = max(_SIZES_APART, int(em * self._scale / _SIZES_APART) * _SIZES_APART)
        [start] = self._points([at])
        self._draw.text(start, character, font=face(size), fill=self._colour(rgb))

    def finish(self) -> Image.Image:
        """Return the picture, RGB, width x height."""
        if self.style == "pixel":
            return self._image.resize((self.width, self.height), Image.Resampling.NEAREST)
        return self._image.reduce(_OVERSAMPLED)
