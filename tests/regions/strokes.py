"""Strokes as people draw them on a picture, each with the region that it means."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw

from bot.regions.finder import AROUND

KINDS = ("ellipse", "loop", "polygon", "gap", "line", "curve", "blob", "area")
# Discord's markup on phones, and the colours that paint programs begin with.
PENS = (
    (237, 66, 69), (255, 255, 255), (0, 0, 0), (254, 231, 92), (87, 242, 135),
    (88, 101, 242), (235, 69, 158), (255, 140, 0), (0, 174, 239), (128, 0, 128),
)  # fmt: skip
# A stroke that is visible: in so much of it the pen differs by so many levels from what is below.
VISIBLE, SHARE = 100, 0.9

Point = tuple[float, float]


@dataclass(frozen=True)
class Stroke:
    """A picture with a stroke on it, and which part of it is meant."""

    kind: str
    picture: Image.Image
    meant: Image.Image


def loop(rng: random.Random, size: tuple[int, int], wobble: float) -> list[Point]:
    """Points around something, by a hand that wobbles."""
    width, height = size
    short = min(size)
    rx, ry = (rng.uniform(0.12, 0.35) * short for _ in range(2))
    x = rng.uniform(rx + 8, width - rx - 8)
    y = rng.uniform(ry + 8, height - ry - 8)
    waves = [(rng.uniform(0, wobble), rng.uniform(0, math.tau), n) for n in (2, 3, 5)]
    points = []
    for step in range(121):
        angle = math.tau * step / 120
        far = 1 + sum(high * math.sin(n * angle + shift) for high, shift, n in waves)
        points.append((x + rx * far * math.cos(angle), y + ry * far * math.sin(angle)))
    return points


def polygon(rng: random.Random, size: tuple[int, int]) -> list[Point]:
    points = loop(rng, size, 0.0)
    corners = rng.randint(3, 6)
    picked = [points[step * 120 // corners] for step in range(corners)]
    return [*picked, picked[0]]


def open_path(rng: random.Random, size: tuple[int, int], bend: float) -> list[Point]:
    short = min(size)
    length, angle = rng.uniform(0.3, 0.6) * short, rng.uniform(0, math.tau)
    x, y = size[0] / 2, size[1] / 2
    x += rng.uniform(-0.12, 0.12) * short
    y += rng.uniform(-0.12, 0.12) * short
    points = []
    for step in range(61):
        along = (step / 60 - 0.5) * length
        aside = bend * length * math.sin(math.pi * step / 60)
        points.append(
            (
                x + along * math.cos(angle) - aside * math.sin(angle),
                y + along * math.sin(angle) + aside * math.cos(angle),
            )
        )
    return points


def drawn(
    size: tuple[int, int], points: list[Point], width: float, *, fill: bool = False
) -> Image.Image:
    """The mask of a path drawn with a round pen; four times as fine, then scaled down."""
    mask = Image.new("L", (size[0] * 4, size[1] * 4))
    draw = ImageDraw.Draw(mask)
    fine = [(x * 4, y * 4) for x, y in points]
    if fill:
        draw.polygon(fine, fill=255)
    if width:
        draw.line(fine, fill=255, width=round(width * 4), joint="curve")
        radius = width * 2
        for x, y in (fine[0], fine[-1]):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return mask.resize(size, Image.Resampling.BOX)


def stroke_on(picture: Image.Image, kind: str, rng: random.Random) -> Stroke:
    """Draw something of a kind on a picture with a pen that is seen there."""
    size, short = picture.size, min(picture.size)
    pen = rng.uniform(0.014, 0.035) * short
    if kind in {"ellipse", "loop"}:
        points = loop(rng, size, 0.0 if kind == "ellipse" else 0.06)
        ink, meant = drawn(size, points, pen), drawn(size, points, pen, fill=True)
    elif kind == "polygon":
        points = polygon(rng, size)
        ink, meant = drawn(size, points, pen), drawn(size, points, pen, fill=True)
    elif kind == "gap":
        points = loop(rng, size, 0.04)
        ink, meant = (
            drawn(size, points[: rng.randint(108, 117)], pen),
            drawn(size, points, pen, fill=True),
        )
    elif kind in {"line", "curve"}:
        points = open_path(rng, size, 0.0 if kind == "line" else rng.uniform(-0.25, 0.25))
        ink, meant = drawn(size, points, pen), drawn(size, points, pen + 2 * AROUND * short)
    else:
        points = loop(rng, size, 0.0 if kind == "blob" else 0.08)
        ink = meant = drawn(size, points, 0, fill=True)
    below = picture.convert("RGB")
    pens = list(PENS)
    rng.shuffle(pens)
    colour = max(pens, key=lambda pen: min(SHARE, seen(below, ink, pen)))
    marked = below.copy()
    marked.paste(colour, mask=ink)
    return Stroke(kind, marked, meant.point(lambda level: 255 * (level > 127)))


def seen(below: Image.Image, ink: Image.Image, pen: tuple[int, int, int]) -> float:
    """How much of a stroke of this colour is visible."""
    apart = ImageChops.difference(below, Image.new("RGB", below.size, pen))
    red, green, blue = apart.split()
    most = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    hidden = most.point(lambda level: 255 * (level >= VISIBLE))
    solid = ink.point(lambda level: 255 * (level > 127))
    return ImageChops.darker(hidden, solid).histogram()[255] / max(1, solid.histogram()[255])


def overlap(one: Image.Image, other: Image.Image) -> float:
    """Intersection over union of two masks."""
    both = ImageChops.darker(one, other).histogram()[255]
    return both / max(1, ImageChops.lighter(one, other).histogram()[255])
