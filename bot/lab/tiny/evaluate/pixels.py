"""Pixels of a picture, taken apart: background row by row, what stands out of it, named colours."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bot.lab.tiny.train.scenes.palette import COLOURS, pastel

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

NAMES: Final = tuple(COLOURS)
_BORDER: Final = 0.03
"""Width of the frame that shows nothing but background, as a share of the picture."""
_STANDS_OUT: Final = (20.0, 40.0)
"""Least and most RGB distance from the background that counts as foreground."""
_SHARE_OF_INK: Final = 0.45
_RECOGNISED: Final = 75.0
"""Largest RGB distance at which a colour still has a name; the nearest two names are 80 apart."""
_DUST: Final = 0.0002
"""Parts below this share of the picture are not looked at."""
_OTHER: Final = -1


@dataclass(frozen=True)
class View:
    """A picture taken apart. Arrays are (height, width) unless said otherwise."""

    pixels: Floats
    """(height, width, 3), 0 to 255."""
    behind: Floats
    """(height, 3): the background of each row."""
    distance: Floats
    """Of each pixel from its row's background."""
    foreground: Mask
    names: NDArray[np.int8]
    """Index into `NAMES` of each pixel's colour, -1 where none is near."""

    @classmethod
    def of(cls, image: Image.Image, style: str = "flat") -> View:
        """Take a picture apart; `style` says whether colours are pastel."""
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
        edge = max(2, round(_BORDER * pixels.shape[1]))
        sides = np.concatenate([pixels[:, :edge], pixels[:, -edge:]], axis=1)
        behind = np.median(sides, axis=1)
        distance = np.linalg.norm(pixels - behind[:, None], axis=2)
        least, most = _STANDS_OUT
        limit = np.clip(_SHARE_OF_INK * np.percentile(distance, 99), least, most)
        return cls(pixels, behind, distance, distance > limit, named(pixels, style))

    def colour(self, name: str) -> Mask:
        """Return where the picture has a colour."""
        return self.names == NAMES.index(name)

    @property
    def solidity(self) -> Floats:
        """How much of each pixel is foreground, 0 to 1; soft at antialiased edges."""
        ink = np.percentile(self.distance[self.foreground], 75) if self.foreground.any() else 1.0
        return np.clip(self.distance / max(1.0, float(ink)), 0.0, 1.0)


def named(pixels: Floats, style: str) -> NDArray[np.int8]:
    """Return the index into `NAMES` of the colour nearest to each pixel (..., 3), or -1."""
    palette = [pastel(c.rgb) if style == "pastel" else c.rgb for c in COLOURS.values()]
    table = np.asarray(palette, dtype=np.float32)
    # |p - t|^2 without |p|^2, which is the same for all t; a matrix product, far quicker.
    scores = (table**2).sum(axis=1) - 2 * (pixels @ table.T)
    best = scores.argmin(axis=-1)
    squared = np.take_along_axis(scores, best[..., None], -1)[..., 0] + (pixels**2).sum(axis=-1)
    limit = _RECOGNISED / (2 if style == "pastel" else 1)
    return np.where(squared <= limit**2, best, _OTHER).astype(np.int8)


def name_of(colour: Floats, style: str) -> str:
    """Return the name of one colour (3,); empty when none is near."""
    index = int(named(colour, style))
    return "" if index == _OTHER else NAMES[index]


def bounds(mask: Mask) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom (exclusive) of a mask that isn't empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def components(mask: Mask) -> list[Mask]:
    """Return the 4-connected parts of a mask, largest first, without dust.

    Runs of each row are joined with those above by union-find.
    """
    parents: list[int] = []
    runs: list[tuple[int, int, int]] = []

    def find(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    above: range = range(0)
    for y, row in enumerate(mask):
        steps = np.flatnonzero(np.diff(np.concatenate([[0], row.view(np.int8), [0]])))
        start = len(runs)
        for left, right in zip(steps[::2].tolist(), steps[1::2].tolist(), strict=True):
            index = len(runs)
            runs.append((y, left, right))
            parents.append(index)
            for other in above:
                if runs[other][1] < right and left < runs[other][2]:
                    parents[find(other)] = find(index)
        above = range(start, len(runs))
    members: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for index, run in enumerate(runs):
        members[find(index)].append(run)
    areas = {root: sum(right - left for _, left, right in of) for root, of in members.items()}
    parts: list[Mask] = []
    for root in sorted(areas, key=areas.__getitem__, reverse=True):
        if areas[root] < _DUST * mask.size:
            break
        part = np.zeros_like(mask)
        for y, left, right in members[root]:
            part[y, left:right] = True
        parts.append(part)
    return parts


def holes(mask: Mask) -> list[Mask]:
    """Return the parts of the outside that a mask encloses, largest first."""
    padded = np.pad(~mask, 1, constant_values=True)
    enclosed = [part for part in components(padded) if not part[0, 0]]
    return [part[1:-1, 1:-1] for part in enclosed]


def filled(mask: Mask) -> Mask:
    """Return a mask without its holes."""
    result = mask.copy()
    for hole in holes(mask):
        result |= hole
    return result


def crop(values: NDArray[Any], size: int, *, stretched: bool, mask: Mask | None = None) -> Floats:
    """Return what a mask (by default `values` itself) bounds, size x size, 0 to 1.

    Unless stretched, its aspect is kept: the longer side fills the square, the other is centred.
    """
    left, top, right, bottom = bounds(values.astype(bool) if mask is None else mask)
    part = np.clip(values[top:bottom, left:right].astype(np.float32), 0.0, 1.0)
    if not stretched:
        high, wide = part.shape
        across, down = (max(high, wide) - wide) // 2, (max(high, wide) - high) // 2
        part = np.pad(part, ((down, down), (across, across)))
    image = Image.fromarray((part * 255).astype(np.uint8))
    small = image.resize((size, size), Image.Resampling.BOX)
    return (np.asarray(small) / 255).astype(np.float32)


def likeness(first: Floats, second: Floats) -> float:
    """Return the normalised correlation of two crops, -1 to 1."""
    a, b = first - first.mean(), second - second.mean()
    return float((a * b).sum() / max(1e-6, float(np.linalg.norm(a) * np.linalg.norm(b))))
