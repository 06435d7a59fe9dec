"""The folder of LoRA files as the settings describe it."""

from __future__ import annotations

from bot.catalogue.lora_rules import LoraRules
from bot.catalogue.loras import LoraFolder
from bot.catalogue.models import ModelSpec
from bot.config.settings import Settings


def lora_folder(settings: Settings, model: ModelSpec | None = None) -> LoraFolder:
    """Return the folder with what is set about it, for `model`; None: for the default."""
    return LoraFolder(
        settings.image_lora_path,
        LoraRules.parse(settings.image_loras),
        model or settings.model,
        streamed=settings.image_offload == "stream",
        fast_is_set=bool(settings.image_quality_fast),
        several=len(settings.models) > 1,
    )
