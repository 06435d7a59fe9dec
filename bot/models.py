"""The models that the bot can draw with: names, picture sizes and quality levels.

One row a model, no torch import: the Discord side reads the sizes from here, the engine child
decides from `family` which pipeline to build.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bot.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Quality:
    """Denoising steps and guidance (`cfg_scale`) of one quality level."""

    steps: int
    guidance: float


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What the rest of the bot has to know of a model.

    `sizes` maps an aspect name to (width, height) in pixels; the first entry is the default.
    """

    name: str
    family: str
    sizes: Mapping[str, tuple[int, int]]
    qualities: Mapping[str, Quality]
    largest_side: int
    """The most pixels on a side that the model draws, in an enlarged picture too."""
    default_quality: str = "standard"

    @property
    def streamed(self) -> bool:
        """Whether this bot's own engine draws it: LoRAs, previews, FP8 cache, streamed blocks."""
        return self.family in {"qwen-image", "tiny"}

    @property
    def default_aspect(self) -> str:
        """The aspect used when the user names none."""
        return next(iter(self.sizes))


# Qwen-Image's training resolutions (model card of Qwen/Qwen-Image), after the 1344x768 that the
# server this project came from used as its default.
_QWEN_SIZES: Final = {
    "7:4": (1344, 768),
    "1:1": (1328, 1328),
    "16:9": (1664, 928),
    "9:16": (928, 1664),
    "4:3": (1472, 1104),
    "3:4": (1104, 1472),
    "3:2": (1584, 1056),
    "2:3": (1056, 1584),
}

# The tiny model draws 256x256 and at most 384 on a side; near ratios share a size.
_TINY_SIZES: Final = {
    "1:1": (256, 256),
    "7:4": (384, 256),
    "16:9": (384, 256),
    "9:16": (256, 384),
    "4:3": (336, 256),
    "3:4": (256, 336),
    "3:2": (384, 256),
    "2:3": (256, 384),
}

MODELS: Final[Mapping[str, ModelSpec]] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            "Qwen/Qwen-Image",
            "qwen-image",
            _QWEN_SIZES,
            {"fast": Quality(20, 4.0), "standard": Quality(40, 4.0), "high": Quality(50, 4.0)},
            2048,
        ),
        ModelSpec(
            "tiny",
            "tiny",
            _TINY_SIZES,
            {"fast": Quality(6, 4.0), "standard": Quality(10, 4.0), "high": Quality(16, 4.0)},
            512,
        ),
    )
}


def find_model(name: str) -> ModelSpec:
    """Return the model called `name`; raise `ConfigError` that lists the right names."""
    try:
        return MODELS[name]
    except KeyError:
        names = ", ".join(MODELS)
        raise ConfigError(f"that is not a known model; choose one of: {names}") from None
