"""The colours that captions name, and how a style changes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Colour:
    """A named colour: names in English and Chinese (the first is the usual one)."""

    english: tuple[str, ...]
    chinese: tuple[str, ...]
    rgb: Rgb


COLOURS: Final[dict[str, Colour]] = {
    "red": Colour(("red",), ("红色",), (226, 54, 54)),
    "orange": Colour(("orange",), ("橙色", "橘色"), (250, 140, 20)),
    "yellow": Colour(("yellow",), ("黄色",), (252, 214, 50)),
    "green": Colour(("green",), ("绿色",), (60, 160, 75)),
    "blue": Colour(("blue",), ("蓝色",), (35, 100, 215)),
    "purple": Colour(("purple", "violet"), ("紫色",), (125, 60, 180)),
    "pink": Colour(("pink",), ("粉色", "粉红色"), (246, 150, 185)),
    "brown": Colour(("brown",), ("棕色", "褐色"), (125, 82, 60)),
    "black": Colour(("black",), ("黑色",), (28, 28, 34)),
    "white": Colour(("white",), ("白色",), (255, 255, 255)),
    "gray": Colour(("gray", "grey"), ("灰色",), (150, 154, 160)),
    "teal": Colour(("teal", "turquoise"), ("青色",), (20, 180, 175)),
}

# Not named by captions: what a thing's surroundings look like when the caption leaves them out.
SKY: Final[Rgb] = (196, 228, 246)
GRASS: Final[Rgb] = (142, 198, 104)
SEA: Final[Rgb] = (76, 154, 206)
NIGHT: Final[Rgb] = (30, 36, 82)
WOOD: Final[Rgb] = (134, 92, 62)
INK: Final[Rgb] = (44, 44, 54)
CREAM: Final[Rgb] = (255, 246, 222)

_PASTEL_WHITE: Final = 0.5


def pastel(rgb: Rgb) -> Rgb:
    """Return the colour mixed half with white."""
    red, green, blue = (round(value + (255 - value) * _PASTEL_WHITE) for value in rgb)
    return red, green, blue


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    """Return `first` with `share` (0 to 1) of `second` mixed in."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def darker(rgb: Rgb, share: float = 0.22) -> Rgb:
    """Return a shade of the colour, for roofs, stems and eyes."""
    return mix(rgb, INK, share)


def lighter(rgb: Rgb, share: float = 0.3) -> Rgb:
    """Return a tint of the colour, for highlights."""
    return mix(rgb, (255, 255, 255), share)
