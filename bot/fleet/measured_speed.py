"""The speed of one engine, as its last pictures of one model measured it."""

from __future__ import annotations

from typing import Final

_NEWEST: Final = 0.3  # the weight of the last picture


class MeasuredSpeed:
    """Megapixel steps a second of the model that an engine drew last, of late."""

    def __init__(self) -> None:
        self._model: str | None = None
        self._speed = 0.0

    def of(self, model: str | None) -> float | None:
        """Return the speed with a model; None unless that is what was drawn last."""
        return self._speed if model is not None and model == self._model else None

    def note(self, model: str, work: float, seconds: float) -> None:
        """Note that `work` megapixel steps of a model took so many seconds, which are above 0."""
        now, before = work / seconds, self.of(model)
        self._speed = now if before is None else (1 - _NEWEST) * before + _NEWEST * now
        self._model = model
