"""Simple scenes: a house, a tree, the moon …, each with one part in the colour that is named."""
# ruff: noqa: PLR2004 - the coordinates and shades of drawings

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bot.lab.tiny.train.scenes import palette
from bot.lab.tiny.train.scenes.canvas import Canvas, Point
from bot.lab.tiny.train.scenes.palette import CREAM, INK, WOOD, Rgb, darker, lighter
from bot.lab.tiny.train.scenes.shapes import outline

Painter = Callable[["Brush", Rgb], None]


class Brush:
    """Draws in coordinates around a thing: -1 to 1 is its size, y grows downwards."""

    def __init__(self, canvas: Canvas, x: float, y: float, radius: float) -> None:
        self.canvas, self.x, self.y, self.radius = canvas, x, y, radius

    def at(self, points: list[Point]) -> list[Point]:
        """Return the points in the picture's pixels."""
        return [(self.x + self.radius * x, self.y + self.radius * y) for x, y in points]

    def area(self, points: list[Point], rgb: Rgb) -> None:
        """Draw a closed outline."""
        self.canvas.polygon(self.at(points), rgb)

    def box(self, left: float, top: float, right: float, bottom: float, rgb: Rgb) -> None:
        """Draw a rectangle."""
        self.area([(left, top), (right, top), (right, bottom), (left, bottom)], rgb)

    def oval(self, x: float, y: float, across: float, rgb: Rgb, high: float | None = None) -> None:
        """Draw an ellipse with these radii."""
        [(px, py)] = self.at([(x, y)])
        high = across if high is None else high
        self.canvas.ellipse(px, py, across * self.radius, rgb, high=high * self.radius)

    def dot(self, x: float, y: float, radius: float, rgb: Rgb) -> None:
        """Fill a small circle, in every style."""
        [(px, py)] = self.at([(x, y)])
        self.canvas.dot(px, py, radius * self.radius, rgb)

    def line(self, points: list[Point], rgb: Rgb, width: float) -> None:
        """Draw an open line."""
        self.canvas.line(self.at(points), rgb, width * self.radius)


def _house(brush: Brush, rgb: Rgb) -> None:
    brush.box(0.38, -0.86, 0.6, -0.3, darker(WOOD, 0.3))
    brush.box(-0.72, -0.15, 0.72, 0.95, rgb)
    brush.area([(-0.98, -0.1), (0.0, -0.98), (0.98, -0.1)], darker(rgb, 0.42))
    brush.box(-0.18, 0.38, 0.18, 0.95, WOOD)
    for x in (-0.45, 0.45):
        brush.box(x - 0.15, 0.05, x + 0.15, 0.33, CREAM)


def _tree(brush: Brush, rgb: Rgb) -> None:
    brush.box(-0.14, 0.2, 0.14, 1.0, WOOD)
    for x, y, radius in ((-0.4, 0.0, 0.42), (0.4, 0.0, 0.42), (0.0, -0.4, 0.54)):
        brush.oval(x, y, radius, rgb)
    if brush.canvas.style != "outline":
        brush.oval(0.0, 0.02, 0.4, rgb)


def _sun(brush: Brush, rgb: Rgb) -> None:
    rays = [(px * 1.04, py * 1.04) for px, py in outline("circle")]
    for k in range(0, 72, 6):
        (ax, ay), (bx, by) = rays[k - 2], rays[(k + 2) % 72]
        tip = rays[k]
        brush.area([(ax * 0.66, ay * 0.66), tip, (bx * 0.66, by * 0.66)], rgb)
    brush.oval(0.0, 0.0, 0.6, rgb)


def _moon(brush: Brush, rgb: Rgb) -> None:
    circle = outline("circle")
    # A crescent: the left arc of one circle and, backwards, that of another to its right.
    outer = [point for point in circle if point[0] <= 0.42]
    top = max(i for i, point in enumerate(circle) if point[0] > 0.42 and point[1] > 0)
    outer = [circle[i % 72] for i in range(top, top + 72) if circle[i % 72][0] <= 0.42]
    inner = [(0.42 + (x - 0.42) * 0.44, y * 0.98) for x, y in reversed(outer)]
    brush.area([(x + 0.18, y) for x, y in outer + inner], rgb)


def _boat(brush: Brush, rgb: Rgb) -> None:
    brush.line([(0.0, -0.95), (0.0, 0.4)], WOOD, 0.1)
    brush.area([(0.09, -0.92), (0.82, 0.2), (0.09, 0.2)], CREAM)
    brush.area([(-0.09, -0.72), (-0.62, 0.2), (-0.09, 0.2)], lighter(rgb, 0.45))
    brush.area([(-1.0, 0.36), (1.0, 0.36), (0.66, 0.88), (-0.66, 0.88)], rgb)


def _fish(brush: Brush, rgb: Rgb) -> None:
    brush.area([(0.45, 0.0), (1.02, -0.5), (0.9, 0.0), (1.02, 0.5)], darker(rgb))
    brush.area([(-0.15, -0.4), (0.15, -0.78), (0.35, -0.3)], darker(rgb))
    brush.oval(-0.15, 0.0, 0.8, rgb, 0.5)
    brush.area([(0.0, 0.02), (0.3, 0.3), (-0.02, 0.26)], darker(rgb))
    brush.dot(-0.55, -0.12, 0.13, CREAM)
    brush.dot(-0.57, -0.12, 0.07, INK)


def _cat(brush: Brush, rgb: Rgb) -> None:
    for side in (-1, 1):
        brush.area([(side * 0.84, -0.98), (side * 0.86, 0.0), (side * 0.12, -0.6)], rgb)
        inside = [(side * 0.7, -0.68), (side * 0.72, -0.3), (side * 0.36, -0.54)]
        brush.canvas.solid(brush.at(inside), lighter(rgb, 0.5))
    brush.oval(0.0, 0.1, 0.9, rgb, 0.78)
    eye = CREAM if sum(rgb) < 150 else INK
    for side in (-1, 1):
        brush.dot(side * 0.36, 0.02, 0.13, eye)
        brush.line([(side * 0.06, 0.4), (side * 0.2, 0.5), (side * 0.34, 0.42)], eye, 0.06)
        for y in (0.28, 0.44):
            brush.line([(side * 0.56, y), (side * 1.04, y + (y - 0.36) * 0.8)], eye, 0.045)
    nose = [(-0.12, 0.26), (0.12, 0.26), (0.0, 0.4)]
    brush.canvas.solid(brush.at(nose), (240, 130, 150))


def _flower(brush: Brush, rgb: Rgb) -> None:
    green = palette.COLOURS["green"].rgb
    brush.line([(0.0, -0.1), (0.0, 1.0)], green, 0.11)
    brush.area([(0.02, 0.85), (0.3, 0.42), (0.62, 0.44), (0.42, 0.76)], green)
    brush.area([(-0.02, 0.95), (-0.3, 0.56), (-0.62, 0.56), (-0.42, 0.88)], green)
    for x, y in outline("hexagon"):
        brush.oval(0.4 * y, -0.36 + 0.4 * x, 0.26, rgb)
    brush.oval(0.0, -0.36, 0.22, (255, 214, 90) if rgb[2] > 60 or rgb[0] < 240 else WOOD)


def _mountain(brush: Brush, rgb: Rgb) -> None:
    brush.area([(0.0, 0.9), (0.62, -0.35), (1.25, 0.9)], darker(rgb, 0.3))
    brush.area([(-1.15, 0.9), (-0.2, -0.9), (0.75, 0.9)], rgb)
    snow = [
        (-0.2, -0.9),
        (0.06, -0.4),
        (-0.07, -0.25),
        (-0.2, -0.42),
        (-0.34, -0.22),
        (-0.47, -0.4),
    ]
    brush.canvas.solid(brush.at(snow), (255, 255, 255) if min(rgb) < 230 else (205, 220, 235))


def _lighthouse(brush: Brush, rgb: Rgb) -> None:
    brush.area([(-0.3, -0.5), (0.3, -0.5), (0.46, 1.0), (-0.46, 1.0)], CREAM)
    for top in (-0.5, 0.1, 0.7):
        bottom = top + 0.3
        a, b = (0.3 + 0.16 * (y + 0.5) / 1.5 for y in (top, bottom))
        brush.area([(-a, top), (a, top), (b, bottom), (-b, bottom)], rgb)
    brush.box(-0.24, -0.78, 0.24, -0.5, (255, 224, 120))
    brush.area([(-0.34, -0.76), (0.0, -1.04), (0.34, -0.76)], darker(rgb, 0.4))
    brush.box(-0.4, -0.55, 0.4, -0.46, INK)


def _night(brush: Brush, rgb: Rgb) -> None:
    brush.area([(x * 0.5 + 0.32, y * 0.5 - 0.3) for x, y in outline("circle")], rgb)
    for x, y, size in (
        (-0.75, -0.7, 0.17),
        (-0.5, -0.12, 0.14),
        (-0.8, 0.25, 0.13),
        (0.9, 0.3, 0.14),
    ):
        star = brush.at([(x + size * px, y + size * py) for px, py in outline("star")])
        brush.canvas.solid(star, (255, 240, 180))


def _balloon(brush: Brush, rgb: Rgb) -> None:
    brush.line([(-0.3, 0.3), (-0.14, 0.72)], INK, 0.045)
    brush.line([(0.3, 0.3), (0.14, 0.72)], INK, 0.045)
    brush.area([(-0.62, 0.08), (0.62, 0.08), (0.2, 0.5), (-0.2, 0.5)], rgb)
    brush.oval(0.0, -0.26, 0.72, rgb)
    if brush.canvas.style != "outline":
        brush.oval(0.0, -0.26, 0.3, lighter(rgb), 0.71)
    brush.box(-0.18, 0.66, 0.18, 0.98, WOOD)


def _mushroom(brush: Brush, rgb: Rgb) -> None:
    brush.area([(-0.26, 0.0), (0.26, 0.0), (0.36, 0.95), (-0.36, 0.95)], CREAM)
    cap = [(x * 1.0, y * 1.0 + 0.12) for x, y in outline("circle") if y <= 0.1]
    half = sorted(cap)
    brush.area(half, rgb)
    for x, y, radius in ((-0.45, -0.22, 0.14), (0.08, -0.5, 0.16), (0.5, -0.14, 0.13)):
        brush.dot(x, y, radius, CREAM)


@dataclass(frozen=True)
class Thing:
    """A scene's subject: names, painter, natural colours, and surroundings by default."""

    english: str
    chinese: str
    painter: Painter
    colours: tuple[str, ...]
    around: str
    measure: str = "个"


_BRIGHT: Final = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "teal", "white")

THINGS: Final[dict[str, Thing]] = {
    "house": Thing("house", "房子", _house, (*_BRIGHT, "brown", "gray"), "meadow", "座"),
    "tree": Thing("tree", "树", _tree, ("green", *_BRIGHT), "meadow", "棵"),
    "sun": Thing("sun", "太阳", _sun, ("yellow", "orange", "red", *_BRIGHT), "sky"),
    "moon": Thing("moon", "月亮", _moon, ("yellow", "white", *_BRIGHT), "night"),
    "boat": Thing("boat", "船", _boat, (*_BRIGHT, "brown", "black"), "sea", "艘"),
    "fish": Thing("fish", "鱼", _fish, (*_BRIGHT, "gray"), "water", "条"),
    "cat": Thing("cat face", "猫脸", _cat, ("orange", "gray", "black", "brown", *_BRIGHT), "cream"),
    "flower": Thing("flower", "花", _flower, _BRIGHT, "meadow", "朵"),
    "mountain": Thing("mountain", "山", _mountain, ("gray", "brown", *_BRIGHT), "land", "座"),
    "lighthouse": Thing("lighthouse", "灯塔", _lighthouse, (*_BRIGHT[:8], "black"), "sea", "座"),
    "night": Thing("night sky", "夜空", _night, ("white", "yellow"), "night"),
    "balloon": Thing("hot air balloon", "热气球", _balloon, _BRIGHT, "sky"),
    "mushroom": Thing("mushroom", "蘑菇", _mushroom, ("red", *_BRIGHT, "brown"), "meadow"),
}

_AROUND: Final[dict[str, tuple[Rgb, Rgb | None]]] = {
    "meadow": (palette.SKY, palette.GRASS),
    "land": (palette.SKY, palette.GRASS),
    "sea": (palette.SKY, palette.SEA),
    "sky": (palette.SKY, None),
    "night": (palette.NIGHT, None),
    "water": (lighter(palette.SEA, 0.35), None),
    "cream": (CREAM, None),
}
_HORIZON: Final = {"meadow": 0.74, "land": 0.72, "sea": 0.7}
_STARS: Final = ((0.12, 0.16), (0.86, 0.12), (0.8, 0.84), (0.14, 0.78), (0.62, 0.07), (0.3, 0.92))


def surround(canvas: Canvas, thing: str) -> None:
    """Paint what a thing stands in when no background is asked for."""
    around = THINGS[thing].around
    top, bottom = _AROUND[around]
    canvas.fill(top)
    width, height = canvas.width, canvas.height
    if bottom is not None:
        edge = _HORIZON[around] * height
        # Wider and higher than the picture, so that an outline shows the horizon alone.
        left, right, low = -0.1 * width, 1.1 * width, 1.1 * height
        canvas.solid([(left, edge), (right, edge), (right, low), (left, low)], bottom)
    if around == "night" and thing != "night":
        for x, y in _STARS:
            canvas.dot(x * width, y * height, 0.012 * canvas.unit, (255, 244, 200))


def draw_thing(canvas: Canvas, thing: str, x: float, y: float, radius: float, rgb: Rgb) -> None:
    """Draw a thing around (x, y)."""
    THINGS[thing].painter(Brush(canvas, x, y, radius), rgb)
