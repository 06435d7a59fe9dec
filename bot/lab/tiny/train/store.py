"""Weights as safetensors, layers' matrices in int8, in parts that are easy to carry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from bot.engine.tiny import stored

_PART: Final = 14 * 2**20
_LAYERED: Final = re.compile(
    r"\.(layers|transformer_blocks|blocks)\.\d+\.(?!.*down$)|\.merger\.mlp\.|\.patch_embed\."
    r"|\.norm_out\.|\.time_text_embed\."
)
"""Names of what is stored in 8 bits where it is a matrix; modulation's thin `down` is not."""
_LEVELS: Final = 127


def in_eight_bits(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Return what is stored of a tensor: int8 and its rows' scales for a layer's matrix, or FP16.

    The layers around the blocks, which all others build on, keep FP16; the VAE too.
    """
    wide = tensor.detach().float().cpu()
    if wide.ndim < 2 or name.startswith("vae.") or not _LAYERED.search(name):  # noqa: PLR2004
        return {name: wide.half().contiguous()}
    # A scale is rounded before it divides, so that reading back is what was meant.
    rows = wide.flatten(1)
    scale = (rows.abs().amax(1) / _LEVELS).clamp(min=1e-6).half()
    levels = (rows / scale.float()[:, None]).round().clamp(-_LEVELS, _LEVELS)
    return {name: levels.to(torch.int8).view(wide.shape), stored.SCALE + name: scale}


def write_parts(state: Mapping[str, Tensor], folder: Path, stem: str) -> list[Path]:
    """Write `state` as stem-0.safetensors and so on, each of at most 14 MiB."""
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        kept = in_eight_bits(name, tensor)
        more = sum(one.nbytes for one in kept.values())
        size += more
        if size > _PART:
            parts.append({})
            size = more
        parts[-1] |= kept
    files = [folder / f"{stem}-{index}.safetensors" for index in range(len(parts))]
    for part, file in zip(parts, files, strict=True):
        partial = file.with_suffix(".partial")
        save_file(part, partial)
        partial.replace(file)  # a run may be stopped at any time
    return files


def read_parts(folder: Path, stem: str) -> dict[str, Tensor]:
    """Read what `write_parts` wrote, as float32."""
    return values_of(stored.read(folder, stem))


def values_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return stored tensors as float32."""
    return {
        name: value
        for name in state
        if not name.startswith(stored.SCALE) and (value := stored.value_of(state, name)) is not None
    }
