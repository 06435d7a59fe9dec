"""Switching: one engine draws several models, of which one at a time has the card."""

from __future__ import annotations

from collections.abc import Iterator

from bot.catalogue.models import find_model
from bot.engine.child.backend import Drawn, LoadInfo, Reporter, WrittenText
from bot.engine.files.find import ensure_for
from bot.engine.models.diffsynth import DiffSynthModel
from bot.engine.models.families import FAMILIES
from bot.engine.models.shelf import NetworkShelf
from bot.engine.models.streamed import StreamedQwenImage
from bot.engine.options import EngineOptions, LoadProgress
from bot.engine.protocol import EngineRequest, WriteRequest


class ModelSwitch:
    """A `Backend` that holds one model, and another once it is switched."""

    def __init__(self, model: str, options: EngineOptions) -> None:
        self._first = model
        self._options = options
        several = len({model, *options.models}) > 1
        self._shelf = NetworkShelf(options.keep_gib, several=several)
        self._backend: StreamedQwenImage | DiffSynthModel | None = None
        self._held: str | None = None

    @property
    def held(self) -> str | None:
        """See `Backend`."""
        return self._held

    def load(self, progress: LoadProgress) -> LoadInfo:
        """See `Backend`."""
        return self.switch(self._first, progress)

    def switch(self, model: str, progress: LoadProgress) -> LoadInfo:
        """See `Backend`. Files that are missing are found so before anything is given up."""
        backend = self._made(model)
        if self._backend is not None:
            self._look_for_files(model, progress)
            self._backend.release()
            self._backend = self._held = None
        if isinstance(backend, DiffSynthModel):
            self._shelf.settle(())
        info = backend.load(progress)
        self._backend, self._held = backend, model
        return info

    def generate(self, request: EngineRequest, report: Reporter) -> Iterator[Drawn]:
        """See `Backend`."""
        assert self._backend is not None
        return self._backend.generate(request, report)

    def write(self, request: WriteRequest, report: Reporter) -> WrittenText:
        """See `Backend`."""
        assert self._backend is not None
        return self._backend.write(request, report)

    def _made(self, model: str) -> StreamedQwenImage | DiffSynthModel:
        family = FAMILIES[find_model(model).family]
        if self._options.offload == "stock" or family.streamed is None:
            return DiffSynthModel(model, self._options)
        return StreamedQwenImage(model, self._options, self._shelf)

    def _look_for_files(self, model: str, progress: LoadProgress) -> None:
        """Download what is missing; raise `EngineError` where that cannot be had."""
        if find_model(model).published is not None and self._shelf.recipe(model) is None:
            ensure_for(model, self._options, progress)
