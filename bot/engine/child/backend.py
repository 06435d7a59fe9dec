"""The backend interface: what the child asks of the code that draws; imports no torch.

Tests put backends that misbehave in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from PIL.Image import Image

from bot.engine.options import Activity, LoadProgress
from bot.engine.protocol import CardUse, Ending, EngineRequest, WriteRequest


@dataclass(frozen=True, slots=True)
class LoadInfo:
    """What was loaded. `imports_s` is the time that importing libraries took, in seconds."""

    model: str
    device: str
    imports_s: float = 0.0
    card_use: CardUse | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """One finished picture, and the seconds that each of its stages took."""

    image: Image = field(repr=False)
    timings: Mapping[str, float]
    peak_gpu_bytes: int | None = None
    card_use: CardUse | None = None


@dataclass(frozen=True, slots=True)
class WrittenText:
    """The end of a text whose pieces were reported, and the seconds that each stage took."""

    ending: Ending
    timings: Mapping[str, float]
    peak_gpu_bytes: int | None = None
    card_use: CardUse | None = None


class Reporter(Protocol):
    """Where a backend reports how far it is. Methods raise `GenerationCancelled` once asked."""

    def loading(self, stage: str, fraction: float | None = None) -> None:
        """Say how far something is that the job has loaded (a `LoadProgress`)."""
        ...

    def stage(self, activity: Activity) -> None:
        """Say that the next activity begins."""
        ...

    def step(self, index: int, total: int) -> None:
        """Say that denoising step `index` (1-based) of `total`, over the whole batch, is done."""
        ...

    def preview(self, step: int, data: bytes) -> None:
        """Hand over a small encoded picture of the unfinished result."""
        ...

    def written(self, text: str, tokens: int) -> None:
        """Hand over more of a text (maybe nothing yet), which has so many tokens by now."""
        ...


class Backend(Protocol):
    """Code that draws, one request at a time."""

    def load(self, progress: LoadProgress) -> LoadInfo:
        """Load the model; raise `EngineError` with a sentence where its owner can mend it."""
        ...

    @property
    def held(self) -> str | None:
        """The model that is loaded; None before the first, and where a switch failed midway."""
        ...

    def switch(self, model: str, progress: LoadProgress) -> LoadInfo:
        """Give the card to another model; `progress` may raise `GenerationCancelled` to give up.

        Raises what `load` does; then what was held before is, or none (see `held`), and another
        switch may do better.
        """
        ...

    def generate(self, request: EngineRequest, report: Reporter) -> Iterator[Drawn]:
        """Yield the pictures of `request` in order."""
        ...

    def write(self, request: WriteRequest, report: Reporter) -> WrittenText:
        """Write a text, telling `report` of each token.

        Raises `EngineError` (`REFUSED`) where the model has nothing that writes.
        """
        ...
