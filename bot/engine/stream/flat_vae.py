"""The VAE without time: its causal convolutions over one frame are convolutions over a plane.

Qwen-Image's VAE was made for films. Nothing but padding of zeros precedes a single picture, so of
each kernel [out, in, time, height, width] the last slice of time alone meets the picture. The
others, 64 % of the VAE's 127 million numbers, are not kept, no padded copies of the picture are
made, and no cuDNN convolution of three dimensions runs, which torch 2.9 computes in several times
the memory (https://github.com/pytorch/pytorch/issues/166643).
"""

from __future__ import annotations

from typing import Any, Final, Self

import torch
from diffsynth.models.qwen_image_vae import QwenImageCausalConv3d
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

_FILM: Final = 5
"""Dimensions of a kernel that has one of time."""


class PlanarConvolution(nn.Module):
    """What a causal convolution of DiffSynth's VAEs does to a single frame.

    Without a padded copy of it. Qwen-Image-2.1's kernels are planes from the start.
    """

    def __init__(
        self,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self._stride = stride
        self._padding = padding

    @classmethod
    def of(cls, causal: Any) -> Self:
        """Return it with the last slice of the kernel, without a gradient."""
        kernel = causal.weight[:, :, -1] if causal.weight.ndim == _FILM else causal.weight
        weight = nn.Parameter(kernel, requires_grad=False)
        left, _right, top, *_rest = causal._padding  # noqa: SLF001 - kept nowhere else
        return cls(weight, causal.bias, causal.stride[-2:], (top, left))

    @override
    def forward(self, x: Tensor, cache_x: None = None) -> Tensor:
        """Take and return [pictures, channels, 1, height, width]."""
        if cache_x is not None or x.shape[2] != 1:
            raise ValueError(f"one frame is wanted, not {tuple(x.shape)}")
        plane = functional.conv2d(x[:, :, 0], self.weight, self.bias, self._stride, self._padding)
        return plane[:, :, None]


def flatten(vae: Any) -> None:
    """Let `vae`, a `QwenImageVAE`, draw and read single pictures alone; films are refused then."""
    for module in list(vae.modules()):
        for name, child in list(module.named_children()):
            if name == "time_conv":  # between frames
                setattr(module, name, None)
            elif isinstance(child, QwenImageCausalConv3d):
                setattr(module, name, PlanarConvolution.of(child))


def planar(tensor: Tensor) -> Tensor:
    """Return of a published tensor what a flattened VAE keeps, as a copy."""
    kept = tensor[:, :, -1] if tensor.ndim == _FILM else tensor
    return torch.clone(kept, memory_format=torch.contiguous_format)
