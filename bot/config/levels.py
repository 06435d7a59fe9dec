"""The model with the quality levels as they are set, and what its engine can do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bot.catalogue.models import BALANCED, ModelSpec, find_model
from bot.config.checks import read_quality

if TYPE_CHECKING:
    from bot.config.settings import Settings


def model_as_set(settings: Settings, name: str) -> ModelSpec:
    """Return the model `name`, with the quality levels of the settings.

    DiffSynth's own pipelines have plain guidance and compute every step: there is no `balanced`,
    nor where the model itself has none. A model with noise levels of its own has its own steps.
    """
    spec = find_model(name)
    if spec.noise_levels:
        return spec
    levels = {
        "fast": settings.image_quality_fast,
        BALANCED: settings.image_quality_balanced,
        "standard": settings.image_quality_standard,
        "high": settings.image_quality_high,
    }
    own = {name: read_quality(value) for name, value in levels.items() if value}
    qualities = {**spec.qualities, **own}
    ours = spec.streamed and settings.image_offload == "stream"
    balanced, known = qualities.pop(BALANCED, None), spec.qualities.get(BALANCED)
    if balanced is not None and known is not None and ours:
        threshold = settings.image_reuse_threshold
        if threshold is None:
            threshold = known.reuse
        balanced = replace(balanced, reuse=threshold)
        qualities = {"fast": qualities["fast"], BALANCED: balanced, **qualities}
    norm = spec.cfg_norm and ours and settings.image_cfg_norm
    return replace(spec, qualities=qualities, cfg_norm=norm)
