"""The backend of a model: streamed by this project, or DiffSynth's own pipeline."""

from __future__ import annotations

from bot.catalogue.models import find_model
from bot.engine.child.backend import Backend
from bot.engine.models.diffsynth import DiffSynthModel
from bot.engine.models.families import FAMILIES
from bot.engine.models.streamed import StreamedQwenImage
from bot.engine.options import EngineOptions


def build(model: str, options: EngineOptions) -> Backend:
    """Return the backend for `model`, not loaded yet."""
    family = FAMILIES[find_model(model).family]
    if options.offload == "stock" or family.streamed is None:
        return DiffSynthModel(model, options)
    return StreamedQwenImage(model, options)
