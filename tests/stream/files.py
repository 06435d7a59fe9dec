"""Toy networks' files in the published layout, cut into shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

# Tests share their few cores with other processes, and toy networks gain nothing from threads.
torch.set_num_threads(1)


def write_shards(
    state: dict[str, torch.Tensor], folder: Path, stem: str, count: int = 3
) -> list[Path]:
    folder.mkdir(parents=True)
    names = [f"{stem}-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)]
    items = [(name, tensor.contiguous()) for name, tensor in state.items()]
    homes: dict[str, str] = {}
    for i, name in enumerate(names):
        save_file(dict(items[i::count]), folder / name)
        homes.update({key: name for key, _ in items[i::count]})
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))
    return [folder / name for name in names]


def published_text(encoder: Any, dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    """The names that Qwen/Qwen-Image's files have."""
    return {
        name.replace("model.visual.", "visual.").replace(
            "model.language_model.", "model."
        ): value.to(dtype)
        for name, value in encoder.state_dict().items()
    }
