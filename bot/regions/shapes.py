"""Arithmetic of masks: pictures of mode `L` in which 255 is marked and 0 is not.

Pillow's filters and the runs of marked pixels in a row: no more is needed, and numpy does not come
into this process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from PIL import Image, ImageChops, ImageFilter, ImageOps

MARKED: Final = 255
# Sums above 255 are cut to it, which makes a dilation of each: by a square, by a plus.
_SQUARE: Final = ImageFilter.Kernel((3, 3), [1] * 9, scale=1)
_PLUS: Final = ImageFilter.Kernel((3, 3), [0, 1, 0, 1, 1, 1, 0, 1, 0], scale=1)


@dataclass(slots=True)
class Component:
    """Marked pixels that touch, as runs (row, first column, column after the last)."""

    runs: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])

    @property
    def area(self) -> int:
        """How many pixels it has."""
        return sum(end - start for _row, start, end in self.runs)

    def box(self) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom; the last two lie outside."""
        rows = [row for row, _start, _end in self.runs]
        left = min(start for _row, start, _end in self.runs)
        right = max(end for _row, _start, end in self.runs)
        return left, min(rows), right, max(rows) + 1

    def touches_edge(self, size: tuple[int, int]) -> bool:
        """Tell whether it reaches the edge of a picture of `size` (width, height)."""
        left, top, right, bottom = self.box()
        return left == 0 or top == 0 or right == size[0] or bottom == size[1]


def components(mask: Image.Image, *, diagonal: bool = True) -> list[Component]:
    """Return the parts of a mask that touch; with `diagonal` also over corners."""
    found: list[Component] = []
    names: list[int] = []  # a forest: the component of each run's first name

    def root(name: int) -> int:
        while names[name] != name:
            names[name] = names[names[name]]
            name = names[name]
        return name

    labelled: list[tuple[int, int, int, int]] = []
    above: list[tuple[int, int, int]] = []
    reach = 1 if diagonal else 0
    for row, runs in enumerate(_rows(mask)):
        here: list[tuple[int, int, int]] = []
        first = 0
        for start, end in runs:
            while first < len(above) and above[first][1] + reach <= start:
                first += 1
            touching = [root(n) for _s, _e, n in _until(above, first, end + reach)]
            name = min(touching) if touching else len(names)
            if not touching:
                names.append(name)
            for other in touching:
                names[other] = name
            here.append((start, end, name))
            labelled.append((row, start, end, name))
        above = here
    by_root: dict[int, Component] = {}
    for row, start, end, name in labelled:
        top = root(name)
        if top not in by_root:
            by_root[top] = Component()
            found.append(by_root[top])
        by_root[top].runs.append((row, start, end))
    return found


def _until(
    runs: Sequence[tuple[int, int, int]], first: int, end: int
) -> Iterator[tuple[int, int, int]]:
    for run in runs[first:]:
        if run[0] >= end:
            return
        yield run


def _rows(mask: Image.Image) -> Iterator[list[tuple[int, int]]]:
    """Yield the runs of marked pixels of each row."""
    width, height = mask.size
    # Only what is wholly marked counts: there is nothing between, after a threshold.
    data = mask.tobytes()
    for row in range(height):
        base = row * width
        line = data[base : base + width]
        runs: list[tuple[int, int]] = []
        start = line.find(b"\xff")
        while start >= 0:
            end = line.find(b"\0", start)
            end = width if end < 0 else end
            runs.append((start, end))
            start = line.find(b"\xff", end) if end < width else -1
        yield runs


def mask_of(parts: Sequence[Component], size: tuple[int, int]) -> Image.Image:
    """Return the mask of `size` (width, height) that marks these components."""
    width, height = size
    data = bytearray(width * height)
    for part in parts:
        for row, start, end in part.runs:
            data[row * width + start : row * width + end] = b"\xff" * (end - start)
    return Image.frombytes("L", size, bytes(data))


def area(mask: Image.Image) -> int:
    """Return how many pixels are marked."""
    return mask.histogram()[MARKED]


def dilated(mask: Image.Image, radius: int) -> Image.Image:
    """Return the mask with everything that lies up to `radius` pixels from it."""
    # One pixel more around it: Pillow's kernels leave the outermost as they are.
    grown = ImageOps.expand(mask, 1)
    for step in range(radius):
        grown = grown.filter(_PLUS if step % 2 else _SQUARE)
    return grown.crop((1, 1, grown.width - 1, grown.height - 1))


def eroded(mask: Image.Image, radius: int) -> Image.Image:
    """Return the mask without what lies up to `radius` pixels from its edge.

    What is outside of the picture counts as marked.
    """
    return ImageChops.invert(dilated(ImageChops.invert(mask), radius))


def surrounded(mask: Image.Image, radius: int) -> Image.Image:
    """Return the mask with all that it goes around, where gaps are up to twice `radius` wide."""
    around = ImageOps.expand(mask, radius + 1)
    thick = dilated(around, radius)
    thick.paste(MARKED, mask=mask_of(holes(thick), thick.size))
    whole = eroded(thick, radius)
    edge = radius + 1
    return ImageChops.lighter(mask, whole.crop((edge, edge, edge + mask.width, edge + mask.height)))


def holes(mask: Image.Image) -> list[Component]:
    """Return the unmarked parts that marked ones enclose."""
    free = components(ImageChops.invert(mask), diagonal=False)
    return [part for part in free if not part.touches_edge(mask.size)]


def half_width(mask: Image.Image) -> int:
    """Return how often the mask can lose its edge until nothing is left: half of its width."""
    # With an edge of what is not marked, or what touches the picture's edge would never end.
    left, count = ImageOps.expand(mask.crop(mask.getbbox()), 1), 0
    while left.getbbox() is not None:
        left, count = eroded(left, 1), count + 1
    return count
