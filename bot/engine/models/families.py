"""Families of models: which modules load the networks of each, and how such a module is called.

A new family is one module in this folder, one line in `FAMILIES`, and one row in
bot/catalogue/models.py for each model that belongs to it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from bot.engine.child.quick_imports import quick_imports
from bot.engine.options import EngineOptions, LoadProgress

if TYPE_CHECKING:
    from bot.engine.models.shelf import NetworkShelf
    from bot.engine.models.streamed_networks import Networks  # imports torch

StockPipeline = tuple[Any, float | None]
"""A pipeline that is called as DiffSynth's `QwenImagePipeline` is (see adapted.py), and its memory
budget in GiB; None: it needs none."""


class StockLoad(Protocol):
    """The function `load` of a module of DiffSynth's pipelines."""

    def __call__(self, model: str, options: EngineOptions, progress: LoadProgress) -> StockPipeline:
        """Load the pipeline of `model`, a name in the catalogue.

        Raises `EngineError` (`LOAD_FAILED`) where the card or the model's files are missing.
        """
        ...


class StreamedLoad(Protocol):
    """The function `load` of a module of streamed networks."""

    def __call__(
        self, model: str, options: EngineOptions, progress: LoadProgress, shelf: NetworkShelf
    ) -> Networks:
        """Load the networks of `model`, a name in the catalogue, but for what is on the `shelf`.

        What was in use before leaves the card first. Raises `EngineError` (`LOAD_FAILED`) where the
        card or the model's files are missing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Family:
    """The names of a family's modules; each is imported when its model is loaded.

    `stock` builds DiffSynth's pipeline; `streamed` the networks of bot/engine/stream, None where
    the streaming engine does not draw the family.
    """

    stock: str
    streamed: str | None = None

    def stock_load(self) -> StockLoad:
        """Import the module of DiffSynth's pipeline, and torch with it; return its `load`."""
        return _load_of(self.stock)

    def streamed_load(self) -> StreamedLoad:
        """Import the module of the streamed networks, and torch with it; return its `load`."""
        assert self.streamed is not None
        return _load_of(self.streamed)


FAMILIES: Final[Mapping[str, Family]] = {
    "qwen-image": Family(
        "bot.engine.models.qwen_image", streamed="bot.engine.models.qwen_image_streamed"
    ),
    "qwen-image-21": Family(
        "bot.engine.models.qwen_image_21", streamed="bot.engine.models.qwen_image_21_streamed"
    ),
    "sdxl": Family("bot.engine.models.sdxl"),
    "tiny": Family("bot.engine.tiny.model", streamed="bot.engine.tiny.streamed"),
}


def _load_of(module: str) -> Any:
    with quick_imports():
        return importlib.import_module(module).load
