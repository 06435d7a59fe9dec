"""Whether a picture goes on beyond the edges of another, of which not a bit may change."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def assert_goes_on(
    before: np.ndarray, after: np.ndarray, place: tuple[int, ...], sides: Iterable[str]
) -> None:
    """`before` is in `place` (left, top, width, height) of `after`, drawn on at `sides`, seamlessly."""
    left, top, width, height = place
    assert (after[top : top + height, left : left + width] == before).all()
    across = np.abs(np.diff(after, axis=1)), np.abs(np.diff(after, axis=0))
    inside = np.mean([np.abs(np.diff(before, axis=axis)).mean() for axis in (0, 1)])
    rows, columns = slice(top, top + height), slice(left, left + width)
    seams = {
        "left": across[0][rows, left - 1],
        "right": across[0][rows, min(left + width, after.shape[1] - 1) - 1],
        "top": across[1][top - 1, columns],
        "bottom": across[1][min(top + height, after.shape[0] - 1) - 1, columns],
    }
    for side in sides:
        assert seams[side].mean() <= 2 * inside
