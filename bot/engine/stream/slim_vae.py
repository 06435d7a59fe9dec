"""Qwen-Image-2.1's VAE in less memory: the same numbers, with fewer copies of the picture.

Its convolutions are planes already, but each makes a padded copy of its input, norms and
enlargements go through copies in float32, and activations through one more. At the picture's own
size, with up to 288 channels, each copy is a hundred times the picture.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from diffsynth.models.qwen_image_21_vae import (
    QwenImage21CausalConv3d,
    QwenImage21RMS_norm,
    QwenImage21Upsample,
)
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from bot.engine.stream.flat_vae import PlanarConvolution

# Numbers that are normed at once: in float32, twice, they take 32 MiB.
_AT_ONCE: Final = 2**22


class RowsNorm(nn.Module):
    """What a `QwenImage21RMS_norm` does, computed for a few rows of the picture at a time."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.gamma = norm.gamma
        self._scale = norm.scale

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Take and return [pictures, channels, ..., height, width]."""
        out = torch.empty_like(x)
        rows = max(1, _AT_ONCE // max(1, x.numel() // x.shape[-2]))
        for part, place in zip(x.split(rows, -2), out.split(rows, -2), strict=True):
            # In float32, and rounded before it is scaled, as DiffSynth does it.
            normed = functional.normalize(part.float(), dim=1).to(x.dtype)
            torch.mul(normed * self._scale, self.gamma, out=place)
        return out


def slim(vae: Any) -> None:
    """Let `vae`, a `QwenImage21VAE`, take less memory, and draw and read single pictures alone."""
    for module in list(vae.modules()):
        for name, child in list(module.named_children()):
            if name == "time_conv":  # between frames
                setattr(module, name, None)
            elif isinstance(child, QwenImage21CausalConv3d):
                setattr(module, name, PlanarConvolution.of(child))
            elif isinstance(child, QwenImage21RMS_norm):
                setattr(module, name, RowsNorm(child))
            elif isinstance(child, QwenImage21Upsample):
                # Each pixel is repeated: the same in any type.
                setattr(module, name, nn.Upsample(scale_factor=(2.0, 2.0), mode=child.mode))
            elif name == "nonlinearity":  # each follows a norm, whose result nobody else reads
                setattr(module, name, nn.SiLU(inplace=True))
