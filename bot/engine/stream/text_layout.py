"""Layout of a layer of Qwen's language models: where each of its weights lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import torch
from torch import Tensor
from typing_extensions import override

from bot.engine.stream.layout import Layout, Packed, Piece
from bot.engine.stream.storage import Storage
from bot.engine.stream.vision_kind import VISION3, VISION25, VisionKind

_NORMS: Final = ("input_layernorm", "post_attention_layernorm")


@dataclass(frozen=True, slots=True)
class TextFamily:
    """A family of language models, by its parts in transformers' `module`.

    `layer`, `norm` and `rotary` are classes there. Of a layer's parts `norms` have a weight for
    each number of a token, `head_norms` for each of a head; `biased` have a bias. `last_norm`: what
    pictures are drawn from went through the model's last norm. `vision` is the tower beside it.
    """

    module: str
    layer: str
    norm: str
    rotary: str
    norms: tuple[str, ...] = _NORMS
    head_norms: tuple[str, ...] = ()
    biased: tuple[str, ...] = ()
    last_norm: bool = True
    vision: VisionKind = VISION25


QWEN25: Final = TextFamily(
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "Qwen2_5_VLDecoderLayer",
    "Qwen2_5_VLRMSNorm",
    "Qwen2_5_VLRotaryEmbedding",
    biased=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
)
"""Qwen2.5-VL, which Qwen-Image reads prompts with."""
QWEN3: Final = TextFamily(
    "transformers.models.qwen3_vl.modeling_qwen3_vl",
    "Qwen3VLTextDecoderLayer",
    "Qwen3VLTextRMSNorm",
    "Qwen3VLTextRotaryEmbedding",
    head_norms=("self_attn.q_norm", "self_attn.k_norm"),
    last_norm=False,
    vision=VISION3,
)
"""Qwen3-VL, which Qwen-Image-2.1 reads prompts with."""


@dataclass(frozen=True, slots=True)
class TextGeometry:
    """The widths of a language model."""

    layers: int
    dim: int
    inner: int
    key_value_dim: int
    head_dim: int = 128

    @classmethod
    def of(cls, config: Any) -> Self:
        """Return those of a language model's configuration."""
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            config.num_hidden_layers,
            config.hidden_size,
            config.intermediate_size,
            config.num_key_value_heads * head,
            head,
        )


@dataclass(frozen=True, repr=False)
class TextLayout(Layout):
    """A `Layout` whose pieces are single linear layers of any width, few of them with a bias.

    Its small tensors are the norms, the biases, and each piece's scales [rows, 1] in float32.
    """

    family: TextFamily = QWEN25
    head_dim: int = 128

    @property
    def inputs(self) -> list[str]:
        """Names of all tensors of a layer."""
        weights = [f"{piece.name}.weight" for piece in self.pieces]
        biases = [f"{name}.bias" for name in self.family.biased]
        return [*weights, *biases, *(f"{name}.weight" for name in self.normed)]

    @property
    def normed(self) -> tuple[str, ...]:
        """Names of a layer's norms."""
        return (*self.family.norms, *self.family.head_norms)

    @property
    @override
    def small_size(self) -> int:
        """Bytes of the tensors that stay on the device: norms, biases, scales."""
        biases = sum(piece.rows for piece in self.pieces if piece.name in self.family.biased)
        rows = sum(piece.rows for piece in self.pieces)
        family = self.family
        numbers = biases + len(family.norms) * self.width + len(family.head_norms) * self.head_dim
        return numbers * self.dtype.itemsize + 4 * rows * self.quantized

    def pack(self, state: Mapping[str, Tensor], device: torch.device) -> Packed:
        """See `Layout.pack`."""
        flat = torch.empty(self.size, dtype=torch.uint8, device=device)
        small = {
            name: state[name].to(device, self.dtype)
            for name in self.inputs
            if state[name].ndim == 1
        }
        for piece, view in zip(self.pieces, self._rows(flat), strict=True):
            scale = self._fill(view, [state[f"{piece.name}.weight"]])
            if scale is not None:
                small[f"{piece.name}.scale"] = scale[:, None]
        return Packed(flat, small)


def text_layout(
    geometry: TextGeometry, dtype: torch.dtype, storage: Storage, family: TextFamily = QWEN25
) -> TextLayout:
    """Return the layout of one layer."""
    dim, inner, key_value = geometry.dim, geometry.inner, geometry.key_value_dim
    shapes = {
        "self_attn.q_proj": (dim, dim),
        "self_attn.k_proj": (key_value, dim),
        "self_attn.v_proj": (key_value, dim),
        "self_attn.o_proj": (dim, dim),
        "mlp.gate_proj": (inner, dim),
        "mlp.up_proj": (inner, dim),
        "mlp.down_proj": (dim, inner),
    }
    pieces = tuple(Piece(name, (name,), rows, cols) for name, (rows, cols) in shapes.items())
    return TextLayout(pieces, dim, dtype, storage, family=family, head_dim=geometry.head_dim)
