"""Loaders of the three networks, from their published files or from the cache of those."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from diffsynth.core.vram.initialization import skip_model_initialization
from diffsynth.models.qwen_image_21_text_encoder import QwenImage21TextEncoder
from diffsynth.models.qwen_image_21_vae import QwenImage21VAE
from diffsynth.models.qwen_image_text_encoder import QwenImageTextEncoder
from diffsynth.models.qwen_image_vae import QwenImageVAE
from torch import Tensor

from bot.engine.stream.cache import Checkpoint, LoadStats, Progress
from bot.engine.stream.compiling import KernelSet
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
from bot.engine.stream.slim_vae import slim
from bot.engine.stream.storage import Storage
from bot.engine.stream.streamer import Streamer
from bot.engine.stream.table import StoredTable
from bot.engine.stream.text_layout import QWEN25, TextFamily, TextGeometry
from bot.engine.stream.transformer import StreamedDiT
from bot.engine.stream.transformer_kind import DOUBLE, TransformerKind
from bot.engine.stream.vae_kind import QWEN_IMAGE_21_VAE


def load_transformer(
    sources: Sources,
    settings: TransformerSettings,
    cache: Path | None,
    progress: Progress,
    kind: TransformerKind = DOUBLE,
    *,
    room: Callable[[int], bool] = lambda _size: False,
    kernels: KernelSet | None = None,
) -> tuple[StreamedDiT, LoadStats]:
    """Build the transformer block by block; what is quantised from and to the folder `cache`.

    `room` is told how many bytes come, and says whether all of them may be in main memory, those
    of resident blocks too. `kernels` are those that others of the process have compiled.

    Raises `EngineError` (`LOAD_FAILED`) where the files are damaged or another kind's.
    """
    storage = settings.precision.storage
    geometry = transformer_geometry(sources)
    items = transformer_items(
        sources,
        settings.dtype,
        storage=storage,
        modulation_storage=settings.modulation_storage,
        parts=kind.parts,
    )
    checkpoint = Checkpoint("transformer", sources, items, cache if storage.quantized else None)
    copied = room(checkpoint.size)
    made: StreamedDiT | None = None
    for key, packed in checkpoint.load(torch.device(settings.device), progress):
        part, index = key_of(key)
        if made is None:
            assert part == OUTER
            outer = kind.outer(geometry, sources)
            outer.load_state_dict(packed.small, assign=True)
            outer = outer.eval().requires_grad_(False)
            made = StreamedDiT(outer, geometry, settings, kind.network, kernels)
            made.weights.copied = copied
        elif not made.add_packed(cast("Kind", part), index, packed):
            checkpoint.memory.put(packed.flat)
        del packed  # or it would live while the next one is made
    assert made is not None
    return made, checkpoint.stats


def text_config() -> Any:
    """Return the full-size language model's `Qwen2_5_VLTextConfig`, as DiffSynth has it."""
    with skip_model_initialization():
        return QwenImageTextEncoder().config.text_config


def text_config_21() -> Any:
    """Return the `Qwen3VLTextConfig` of Qwen-Image-2.1's language model, as DiffSynth has it."""
    from transformers import Qwen3VLConfig  # noqa: PLC0415 - slow to import

    values: dict[str, Any] = QwenImage21TextEncoder.QWEN_IMAGE_21_TEXT_ENCODER_CONFIG
    return Qwen3VLConfig(**values).text_config


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
    family: TextFamily = QWEN25,
    room: Callable[[int], object] = lambda _size: None,
) -> tuple[StreamedTextEncoder, LoadStats]:
    """Build the text encoder layer by layer; what is quantised from and to the folder `cache`.

    `room` is told how many bytes come into main memory.
    """
    items = text_items(sources, TextGeometry.of(config), dtype, storage, family)
    checkpoint = Checkpoint("text encoder", sources, items, cache if storage.quantized else None)
    room(checkpoint.size)
    made = StreamedTextEncoder(
        config, device, dtype, storage=storage, streamer=streamer, family=family
    )
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
    """Build Qwen-Image's VAE on the device, in `dtype`, without what films need."""
    with skip_model_initialization():
        vae: Any = network()
        flatten(vae)
    return PictureCodec(_filled(vae, sources), device, dtype)


def load_vae_21(
    sources: Sources, device: Device, dtype: torch.dtype, *, network: type[Any] = QwenImage21VAE
) -> PictureCodec:
    """Build Qwen-Image-2.1's VAE on the device, in `dtype`, without what films need."""
    with skip_model_initialization():
        vae: Any = network()
        slim(vae)
    return PictureCodec(_filled(vae, sources), device, dtype, QWEN_IMAGE_21_VAE)


def _filled(vae: Any, sources: Sources) -> Any:
    """Give an empty VAE its published weights."""
    state = {name: planar(sources.tensor(name)) for name in vae.state_dict()}
    vae.load_state_dict(state, assign=True)
    return vae.requires_grad_(False)
