"""Modules moved whole between main memory and a device."""

from __future__ import annotations

import torch


def move(module: torch.nn.Module, device: torch.device) -> None:
    """Move a module with the tensors that DiffSynth's modules keep beside their buffers."""
    module.to(device=device)
    for part in module.modules():
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor):
                setattr(part, name, value.to(device))
