"""Transformers of any width with random weights: for the benchmark and the tests."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import torch
from diffsynth.core.vram.initialization import skip_model_initialization
from torch import Tensor

from bot.engine.stream.layout import Geometry
from bot.lab.step.subject import QWEN_IMAGE, Subject

FULL: Final = QWEN_IMAGE.full
SMALL: Final = QWEN_IMAGE.small
SMALL_TEXT: Final = QWEN_IMAGE.small_text


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
    geometry: Geometry,
    index: int,
    device: torch.device,
    dtype: torch.dtype,
    subject: Subject = QWEN_IMAGE,
) -> dict[str, Tensor]:
    """Return block `index`'s tensors, always the same ones on the same kind of device."""
    with skip_model_initialization():
        block = subject.block(geometry)
    return _values(block.named_parameters(), index, device, dtype)


def random_dit(
    geometry: Geometry,
    text: int,
    device: torch.device,
    dtype: torch.dtype,
    subject: Subject = QWEN_IMAGE,
    *,
    blocks: bool = True,
) -> Any:
    """Return DiffSynth's transformer; the weights of its blocks are those of `random_block`."""
    with skip_model_initialization():
        dit: Any = subject.whole(geometry, text, blocks)
    outer = ((n, p) for n, p in dit.named_parameters() if not n.startswith("transformer_blocks"))
    dit.load_state_dict(_values(outer, 10_000, device, dtype), assign=True, strict=False)
    for index, block in enumerate(dit.transformer_blocks):
        block.load_state_dict(random_block(geometry, index, device, dtype, subject), assign=True)
    return dit.eval().requires_grad_(requires_grad=False)
