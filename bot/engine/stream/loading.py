"""Loaders of the three networks, from their published files or from the cache of those."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from diffsynth.core.vram.initialization import skip_model_initialization
from diffsynth.models.qwen_image_text_encoder import QwenImageTextEncoder
from diffsynth.models.qwen_image_vae import QwenImageVAE
from torch import Tensor

from bot.engine.stream.any_dit import AnyDiT
from bot.engine.stream.cache import Checkpoint, LoadStats, Progress
from bot.engine.stream.decode import PictureCodec
from bot.engine.stream.device import Device
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.flat_vae import flatten, planar
from bot.engine.stream.layout import Kind
from bot.engine.stream.parts import (
    OUTER,
    TABLE,
    TABLE_WEIGHT,
    key_of,
    text_items,
    transformer_geometry,
    transformer_items,
)
from bot.engine.stream.published import Sources
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.storage import Storage
from bot.engine.stream.streamer import Streamer
from bot.engine.stream.table import StoredTable
from bot.engine.stream.text_layout import TextGeometry
from bot.engine.stream.transformer import StreamedDiT


def load_transformer(
    sources: Sources, settings: TransformerSettings, cache: Path | None, progress: Progress
) -> tuple[StreamedDiT, LoadStats]:
    """Build the transformer block by block; what is quantised from and to the folder `cache`."""
    storage = settings.precision.storage
    geometry = transformer_geometry(sources)
    items = transformer_items(
        sources,
        settings.dtype,
        storage=storage,
        modulation_storage=settings.modulation_storage,
    )
    checkpoint = Checkpoint("transformer", sources, items, cache if storage.quantized else None)
    made: StreamedDiT | None = None
    for key, packed in checkpoint.load(torch.device(settings.device), progress):
        kind, index = key_of(key)
        if made is None:
            assert kind == OUTER
            _, (_, text) = sources.spec("txt_in.weight")
            with skip_model_initialization():
                outer: Any = AnyDiT(geometry, text, blocks=False)
            outer.load_state_dict(packed.small, assign=True)
            made = StreamedDiT(outer.eval().requires_grad_(False), geometry, settings)
        else:
            made.add_packed(cast("Kind", kind), index, packed)
        del packed  # or it would live while the next one is made
    assert made is not None
    return made, checkpoint.stats


def text_config() -> Any:
    """Return the full-size language model's `Qwen2_5_VLTextConfig`, as DiffSynth has it."""
    with skip_model_initialization():
        return QwenImageTextEncoder().config.text_config


def load_text_encoder(
    sources: Sources,
    config: Any,
    device: Device,
    dtype: torch.dtype,
    cache: Path | None,
    progress: Progress,
    *,
    storage: Storage = Storage.FP8,
    streamer: Streamer | None = None,
) -> tuple[StreamedTextEncoder, LoadStats]:
    """Build the text encoder layer by layer; what is quantised from and to the folder `cache`."""
    items = text_items(sources, TextGeometry.of(config), dtype, storage)
    checkpoint = Checkpoint("text encoder", sources, items, cache if storage.quantized else None)
    made = StreamedTextEncoder(config, device, dtype, storage=storage, streamer=streamer)
    norm: Tensor | None = None
    for key, packed in checkpoint.load(device.torch, progress):
        kind, index = key_of(key)
        if kind == OUTER:
            norm = packed.small["norm.weight"]
        else:
            made.add_packed(index, packed)
        del packed
    assert norm is not None
    made.set_outer(StoredTable(checkpoint.place(TABLE, TABLE_WEIGHT)), norm)
    return made, checkpoint.stats


def load_vae(
    sources: Sources, device: Device, dtype: torch.dtype, *, network: type[Any] = QwenImageVAE
) -> PictureCodec:
    """Build the VAE on the device, in `dtype`, without what films need."""
    with skip_model_initialization():
        vae: Any = network()
        flatten(vae)
    state = {name: planar(sources.tensor(name)) for name in vae.state_dict()}
    vae.load_state_dict(state, assign=True)
    return PictureCodec(vae.requires_grad_(False), device, dtype)
