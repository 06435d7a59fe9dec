"""The vision tower of a text encoder, from its published files or from the cache of those."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from diffsynth.core.vram.initialization import skip_model_initialization
from diffsynth.models.qwen_image_text_encoder import QwenImageTextEncoder

from bot.engine.files.stages import LOADING, LOADING_VISION
from bot.engine.stream.cache import Checkpoint, LoadStats, Progress
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.items import Use
from bot.engine.stream.parts import VISION, key_of, text_items
from bot.engine.stream.published import Sources
from bot.engine.stream.vision import StreamedVisionTower

_PART: Final = "text encoder"


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
    layout = encoder.layout
    items = [
        replace(item, use=Use.LOADED if key_of(item.key)[0] == VISION else Use.KEPT)
        for item in text_items(
            sources, encoder.geometry, layout.dtype, layout.storage, layout.family
        )
    ]
    checkpoint = Checkpoint(_PART, sources, items, cache if layout.storage.quantized else None)
    made = StreamedVisionTower(config, encoder.device, layout.dtype, encoder.streamer)
    there = {name for item in items if item.use is Use.LOADED for name in item.tensors}
    for name in made.names:
        if name not in there:
            sources.spec(f"visual.{name}")  # raises
    room(checkpoint.size)

    def told(stage: str, share: float | None) -> None:
        progress(LOADING_VISION if stage == LOADING[_PART] else stage, share)

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
