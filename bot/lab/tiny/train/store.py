"""Weights as FP16 safetensors, in parts that are easy to carry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

_PART: Final = 14 * 2**20


def write_parts(state: Mapping[str, Tensor], folder: Path, stem: str) -> list[Path]:
    """Write `state` in FP16 as stem-0.safetensors and so on, each of at most 14 MiB."""
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        half = tensor.detach().half().cpu().contiguous()
        size += half.nbytes
        if size > _PART:
            parts.append({})
            size = half.nbytes
        parts[-1][name] = half
    files = [folder / f"{stem}-{index}.safetensors" for index in range(len(parts))]
    for part, file in zip(parts, files, strict=True):
        save_file(part, file)
    return files


def read_parts(folder: Path, stem: str) -> dict[str, Tensor]:
    """Read what `write_parts` wrote, as float32."""
    state: dict[str, Tensor] = {}
    for file in sorted(folder.glob(f"{stem}-*.safetensors")):
        state |= {name: tensor.to(torch.float32) for name, tensor in load_file(file).items()}
    return state
