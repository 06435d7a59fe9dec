"""Transformers of any width with random weights: for the benchmark and the tests."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import torch
from diffsynth.core.vram.initialization import skip_model_initialization
from diffsynth.models.qwen_image_dit import QwenImageTransformerBlock
from torch import Tensor

from bot.engine.stream.any_dit import AnyDiT
from bot.engine.stream.layout import Geometry

FULL: Final = Geometry(layers=60, dim=3072, heads=24)
FULL_TEXT: Final = 3584
SMALL: Final = Geometry(layers=6, dim=128, heads=2)
SMALL_TEXT: Final = 48


def _values(
    names: Iterator[tuple[str, Any]], seed: int, device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    generator = torch.Generator(device).manual_seed(seed)
    values: dict[str, Tensor] = {}
    for name, parameter in names:
        value = torch.randn(parameter.shape, generator=generator, device=device, dtype=dtype)
        if parameter.ndim > 1:
            value *= max(0.02, 1 / math.sqrt(parameter.shape[1]))
        else:
            value = value * 0.01 + float("norm" in name)
        values[name] = value
    return values


def random_block(
    geometry: Geometry, index: int, device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return block `index`'s tensors, always the same ones on the same kind of device."""
    with skip_model_initialization():
        block = QwenImageTransformerBlock(
            dim=geometry.dim,
            num_attention_heads=geometry.heads,
            attention_head_dim=geometry.head_dim,
        )
    return _values(block.named_parameters(), index, device, dtype)


def random_dit(
    geometry: Geometry, text: int, device: torch.device, dtype: torch.dtype, *, blocks: bool = True
) -> Any:
    """Return DiffSynth's transformer; the weights of its blocks are those of `random_block`."""
    with skip_model_initialization():
        dit: Any = AnyDiT(geometry, text, blocks=blocks)
    outer = ((n, p) for n, p in dit.named_parameters() if not n.startswith("transformer_blocks"))
    dit.load_state_dict(_values(outer, 10_000, device, dtype), assign=True, strict=False)
    for index, block in enumerate(dit.transformer_blocks):
        block.load_state_dict(random_block(geometry, index, device, dtype), assign=True)
    return dit.eval().requires_grad_(requires_grad=False)
