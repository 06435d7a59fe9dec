"""The tiny networks in the form that is trained and stored: no parameter that a picture ignores.

Three things differ from DiffSynth's networks, and `bot.engine.tiny.stored.expand` undoes them:
modulation is a product of two thin matrices (its only input is the noise level, so its rank is
low), causal 3-D convolutions keep the one slice that a single picture meets, and what is never
used (vision tower, language head, time convolutions) is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from diffsynth.models.qwen_image_vae import (
    QwenImageCausalConv3d,
    QwenImageResidualBlock,
    QwenImageRMS_norm,
)
from torch import Tensor, nn
from torch.nn import functional

from bot.engine.tiny.model import TRAINED, TinyDiT, TinyTextEncoder, TinyVAE

MODULATION_RANK: Final = 16
_EPSILON: Final = 1e-12


class ThinLinear(nn.Module):
    """A linear layer whose weight is `up` [out, rank] times `down` [rank, in]."""

    def __init__(self, columns: int, rows: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, columns) / columns**0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self.bias = nn.Parameter(torch.zeros(rows))

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., out] of [..., in]."""
        return functional.linear(functional.linear(x, self.down), self.up, self.bias)


class LowRankLinear(nn.Module):
    """A frozen linear layer and a trained addition to its weight: `up` [out, r] times `down`.

    It begins as the layer itself: `up` is zero (arXiv 2106.09685).
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        rows, columns = linear.weight.shape
        down = torch.randn(rank, columns, device=linear.weight.device) / columns**0.5
        self.down = nn.Parameter(down)
        self.up = nn.Parameter(linear.weight.new_zeros(rows, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., out] of [..., in]."""
        added = functional.linear(functional.linear(x, self.down), self.up)
        return functional.linear(x, self.weight, self.bias) + added


class PictureConv(nn.Module):
    """What a causal 3-D convolution does to a video of one picture: its last slice, in 2-D."""

    def __init__(self, causal: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(causal.weight.detach()[:, :, -1].clone())
        self.bias = nn.Parameter(causal.bias.detach().clone())
        self.margin = causal._padding[0]  # noqa: SLF001 - the class hides what it pads

    def forward(self, x: Tensor, cache: Any = None) -> Tensor:
        """Convolve [pictures, channels, 1, height, width]."""
        del cache
        out = functional.conv2d(x.squeeze(2), self.weight, self.bias, padding=self.margin)
        return out.unsqueeze(2)


class NormSilu(nn.Module):
    """`QwenImageRMS_norm` and the SiLU after it; two kernels where channels come last in memory."""

    def __init__(self, norm: QwenImageRMS_norm) -> None:
        super().__init__()
        self.gamma = norm.gamma

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over the channels, then apply SiLU."""
        weight = self.gamma.flatten().to(x.dtype)
        rows = functional.rms_norm(x.movedim(1, -1), weight.shape, weight, _EPSILON)
        return functional.silu(rows).movedim(-1, 1)


def flatten_vae(module: Any) -> None:
    """Turn the VAE's convolutions into `PictureConv`, in place."""
    for name, child in list(module.named_children()):
        if name == "time_conv":
            delattr(module, name)
        elif isinstance(child, QwenImageCausalConv3d):
            setattr(module, name, PictureConv(child))
        else:
            flatten_vae(child)
    if isinstance(module, QwenImageResidualBlock):
        block: Any = module
        block.norm1 = NormSilu(block.norm1)
        block.norm2 = NormSilu(block.norm2)
        block.nonlinearity = nn.Identity()


def trained_vae() -> nn.Module:
    """Return the VAE to be trained, its weights from torch's current seed."""
    vae = TinyVAE(TRAINED)
    flatten_vae(vae)
    return vae


_LAST: Final = f"transformer.transformer_blocks.{TRAINED.layers - 1}."
UNUSED: Final = (f"{_LAST}attn.to_add_out", f"{_LAST}txt_mlp")
"""Prefixes of the names of parameters that no picture depends on: the last block's text."""
_UNMOVED: Final = (*UNUSED, f"{_LAST}attn.add_q_proj")
"""And what the last block's text asks the picture: nobody reads the answer."""


def trained_transformer() -> TinyDiT:
    """Return a transformer to be trained, each of its blocks the identity at first."""
    transformer = TinyDiT(TRAINED)
    blocks: Any = transformer.transformer_blocks
    for block in blocks:
        # An up of zeros: each block is the identity at first (adaLN-Zero, arXiv 2212.09748).
        for stream in (block.img_mod, block.txt_mod):
            linear = stream[1]
            stream[1] = ThinLinear(linear.in_features, linear.out_features, MODULATION_RANK)
    for name, parameter in transformer.named_parameters():
        if f"transformer.{name}".startswith(UNUSED):
            nn.init.zeros_(parameter)
    for layer in (transformer.norm_out.linear, transformer.proj_out):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return transformer


_LAYERS: Final = "language_model.layers."
_ADDING: Final = ("o_proj.weight", "down_proj.weight")


class Painter(nn.Module):
    """The text encoder's language model and the transformer, trained together."""

    def __init__(self) -> None:
        super().__init__()
        encoder = TinyTextEncoder(TRAINED)
        del encoder.lm_head, encoder.model.visual
        self.text_encoder = encoder
        self.transformer = trained_transformer()

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the parameters that training changes; the others are zeros and not stored."""
        return {
            name: value for name, value in self.named_parameters() if not name.startswith(UNUSED)
        }


@torch.no_grad()
def take_stored(module: nn.Module, states: Mapping[str, Tensor]) -> None:
    """Give `module` the stored weights that have its parameters' names; others stay as they are.

    Layers of the language model that were not stored become the identity: what they add is 0. A
    table of words that was stored when there were fewer fills the first rows.
    """
    stored_layers = {_layer_of(name) for name in states}
    for name, parameter in module.named_parameters():
        value = states.get(name)
        if value is not None:
            parameter[: len(value)] = value.view(-1, *parameter.shape[1:])
        elif name.endswith(_ADDING) and _layer_of(name) not in stored_layers | {""}:
            parameter.zero_()


def _layer_of(name: str) -> str:
    """Return the number of the language model's layer that a parameter is of; else nothing."""
    return name.partition(_LAYERS)[2].partition(".")[0]


class StyledPainter(Painter):
    """A painter of which additions of `rank` to its blocks' linear layers alone are trained.

    Modulation stays as it is: at a rank of 16 the rest is 0.8 M parameters.
    """

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.requires_grad_(requires_grad=False)
        for prefix, module in list(self.named_modules()):
            for name, child in list(module.named_children()):
                path = f"{prefix}.{name}"
                layered = path.startswith("transformer.transformer_blocks.")
                if layered and isinstance(child, nn.Linear) and not path.startswith(_UNMOVED):
                    setattr(module, name, LowRankLinear(child, rank))

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the additions."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}
