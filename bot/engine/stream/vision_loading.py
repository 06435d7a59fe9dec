"""The vision tower of a text encoder, from its published files or from the cache of those."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffsynth.core.vram.initialization import skip_model_initialization
from diffsynth.models.qwen_image_21_text_encoder import QwenImage21TextEncoder
from diffsynth.models.qwen_image_text_encoder import QwenImageTextEncoder

from bot.engine.files.stages import LOADING_VISION
from bot.engine.stream.cache import LoadStats, Progress
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.encoder_parts import checkpoint_of, told_as
from bot.engine.stream.items import Use
from bot.engine.stream.parts import VISION, key_of
from bot.engine.stream.published import Sources
from bot.engine.stream.vision import StreamedVisionTower


def vision_config_21() -> Any:
    """Return Qwen-Image-2.1's `Qwen3VLVisionConfig` at full size, as DiffSynth has it."""
    from transformers import Qwen3VLConfig  # noqa: PLC0415 - slow to import

    values: dict[str, Any] = QwenImage21TextEncoder.QWEN_IMAGE_21_TEXT_ENCODER_CONFIG
    return Qwen3VLConfig(**values).vision_config


def vision_config() -> Any:
    """Return the full-size tower's `Qwen2_5_VLVisionConfig`, as DiffSynth has it."""
    with skip_model_initialization():
        return QwenImageTextEncoder().config.vision_config


def load_vision(
    encoder: StreamedTextEncoder,
    sources: Sources,
    config: Any,
    cache: Path | None,
    progress: Progress,
    *,
    room: Callable[[int], object] = lambda _size: None,
) -> LoadStats:
    """Give a text encoder the vision tower that its files have, in main memory.

    It stands in the same `cache` as the language model, as it was published. `room` is told how
    many bytes come into main memory.

    Raises `EngineError` (`LOAD_FAILED`) where the files are damaged, or have no such tower.
    """
    checkpoint = checkpoint_of(encoder, sources, cache, VISION)
    layout = encoder.layout
    made = StreamedVisionTower(
        config, encoder.device, layout.dtype, encoder.streamer, layout.family.vision
    )
    there = {name for item in checkpoint.items if item.use is Use.LOADED for name in item.tensors}
    for name in made.names:
        if name not in there:
            sources.spec(f"visual.{name}")  # raises
    room(checkpoint.size)

    told = told_as(LOADING_VISION, progress)
    for key, packed in checkpoint.load(encoder.device.torch, told):
        _, index = key_of(key)
        if index < 0:
            made.set_outer(packed.small)
        else:
            start = f"blocks.{index}."
            state = {name.removeprefix(start): each for name, each in packed.small.items()}
            made.add_block(index, state)
            del state
        del packed
    encoder.vision = made
    return checkpoint.stats
