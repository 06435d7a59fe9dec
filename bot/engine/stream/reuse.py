"""Reuse of predictions: steps in the middle of a schedule that the transformer is spared.

From one noise level to the next a prediction changes little, and least in the middle of a schedule.
TeaCache (arXiv:2411.19108) and EasyCache (arXiv:2507.02860) estimate the change without computing
it and use the last prediction again until the estimate has added up to a threshold. Here the
estimate comes from the predictions themselves: what changed between the last two that were
computed, for each unit of noise level in between, times how far the level has moved since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

_FIRST: Final = 4
"""Steps at the beginning that are always computed: they decide what is where in the picture."""
_MOST: Final = 3
"""Steps in a row that are spared at most."""


@dataclass(slots=True)
class _Last:
    """The last prediction of a picture that was computed, and how fast predictions change."""

    step: int
    prediction: Tensor
    rate: float | None = None
    """Relative change for a unit of noise level."""


class Reuse:
    """Which pictures' predictions are due at a step; those that are not are used again.

    `threshold` is the relative change (of the L2 norm) up to which a prediction may be used again;
    0 computes every step. Each picture is judged alone, so that it is the same in any batch.
    `sigmas` [steps] are the noise levels.
    """

    def __init__(self, threshold: float, sigmas: Tensor, pictures: int) -> None:
        self._threshold = threshold
        self._sigmas: list[float] = sigmas.tolist()
        self._last: list[_Last | None] = [None] * pictures
        self.computed = 0
        """Predictions of one picture that were computed so far."""

    def due(self, step: int) -> list[int]:
        """Return which pictures' predictions have to be computed at `step` (0-based)."""
        return [index for index, last in enumerate(self._last) if self._is_due(step, last)]

    def _is_due(self, step: int, last: _Last | None) -> bool:
        if not self._threshold or last is None or last.rate is None:
            return True
        if step < _FIRST or step == len(self._sigmas) - 1 or step - last.step > _MOST:
            return True
        moved = abs(self._sigmas[step] - self._sigmas[last.step])
        return last.rate * moved >= self._threshold

    def note(self, step: int, due: Sequence[int], fresh: Tensor) -> None:
        """Keep what was computed at `step` for the pictures that were `due`.

        `fresh` is [pictures that are due, 16, height / 8, width / 8].
        """
        self.computed += len(due)
        for index, prediction in zip(due, fresh, strict=True):
            last = self._last[index]
            rate = None
            if self._threshold and last is not None:
                rate = self._rate(step, prediction, last)
            self._last[index] = _Last(step, prediction, rate)

    def predictions(self) -> Tensor:
        """Return each picture's last prediction [pictures, 16, height / 8, width / 8].

        Every picture's has been noted by then: at the first step all are due.
        """
        return torch.stack([last.prediction for last in self._last if last is not None])

    def _rate(self, step: int, prediction: Tensor, last: _Last) -> float:
        """Return how much a prediction differs from the last, relatively, a unit of noise level."""
        change = torch.linalg.vector_norm((prediction - last.prediction).float())
        relative = float(change / torch.linalg.vector_norm(prediction.float()))
        return relative / abs(self._sigmas[step] - self._sigmas[last.step])
