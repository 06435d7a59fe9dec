"""The ten shapes: outlines around (0, 0) that look equally large."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from bot.lab.tiny.train.scenes.canvas import Canvas, Point
from bot.lab.tiny.train.scenes.palette import Rgb


@dataclass(frozen=True)
class Shape:
    """Names of a shape: English singular and plural, Chinese, and the Chinese measure word."""

    english: tuple[tuple[str, str], ...]
    chinese: tuple[str, ...]
    measure: str = "个"


SHAPES: Final[dict[str, Shape]] = {
    "circle": Shape((("circle", "circles"),), ("圆形", "圆")),
    "square": Shape((("square", "squares"),), ("正方形", "方块")),
    "triangle": Shape((("triangle", "triangles"),), ("三角形",)),
    "star": Shape((("star", "stars"),), ("星星", "五角星"), "颗"),
    "heart": Shape((("heart", "hearts"),), ("爱心", "心形"), "颗"),
    "ring": Shape((("ring", "rings"),), ("圆环", "环")),
    "hexagon": Shape((("hexagon", "hexagons"),), ("六边形",)),
    "diamond": Shape((("diamond", "diamonds"), ("rhombus", "rhombuses")), ("菱形",)),
    "cross": Shape((("cross", "crosses"), ("plus sign", "plus signs")), ("十字",)),
    "arrow": Shape((("arrow", "arrows"),), ("箭头",)),
}

OUTER: Final = ("circle", "square", "hexagon", "heart", "diamond")
"""Shapes with room for another inside."""
RING_HOLE: Final = 0.55
"""Radius of a ring's hole, as a share of its own."""


def _corners(count: int, radius: float, turn: float = 0.0) -> list[Point]:
    angles = [math.tau * (i / count + turn) - math.pi / 2 for i in range(count)]
    return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _star() -> list[Point]:
    outer, inner = _corners(5, 1.08), _corners(5, 0.46, 0.1)
    return [(x, y + 0.06) for pair in zip(outer, inner, strict=True) for x, y in pair]


def _heart() -> list[Point]:
    """Return the curve x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t, scaled."""
    points: list[Point] = []
    for step in range(48):
        t = math.tau * step / 48
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((math.sin(t) ** 3, -(y + 2.5) / 16))
    return points


def _cross(arm: float = 0.95, half: float = 0.32) -> list[Point]:
    quarter = [(half, -arm), (half, -half), (arm, -half)]
    points: list[Point] = []
    for _ in range(4):
        points += quarter
        quarter = [(-y, x) for x, y in quarter]
    return points


@lru_cache
def outline(shape: str) -> tuple[Point, ...]:
    """Return the corners of a shape of radius 1; y grows downwards."""
    match shape:
        case "circle" | "ring":
            return tuple(_corners(72, 0.95))
        case "square":
            return ((-0.84, -0.84), (0.84, -0.84), (0.84, 0.84), (-0.84, 0.84))
        case "triangle":
            return ((0.0, -0.98), (1.04, 0.82), (-1.04, 0.82))
        case "star":
            return tuple(_star())
        case "heart":
            return tuple(_heart())
        case "hexagon":
            return tuple(_corners(6, 1.0, 1 / 12))
        case "diamond":
            return ((0.0, -1.08), (0.78, 0.0), (0.0, 1.08), (-0.78, 0.0))
        case "cross":
            return tuple(_cross())
        case "arrow":
            head, shaft = 0.02, 0.3
            return (
                (-1.0, -shaft), (head, -shaft), (head, -0.78), (1.0, 0.0),
                (head, 0.78), (head, shaft), (-1.0, shaft),
            )  # fmt: skip
        case _:
            raise ValueError(shape)


def draw_shape(
    canvas: Canvas, shape: str, x: float, y: float, radius: float, rgb: Rgb, behind: Rgb
) -> None:
    """Draw one shape around (x, y); `behind` shows through the hole of a ring."""
    points = [(x + radius * px, y + radius * py) for px, py in outline(shape)]
    canvas.ground(behind)
    canvas.polygon(points, rgb)
    if shape == "ring":
        hole = [(x + (px - x) * RING_HOLE, y + (py - y) * RING_HOLE) for px, py in points]
        canvas.hole(hole, rgb, behind)
