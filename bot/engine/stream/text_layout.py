"""Layout of a layer of Qwen2.5's language model: where each of its weights lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import torch
from torch import Tensor
from typing_extensions import override

from bot.engine.stream.layout import Layout, Packed, Piece
from bot.engine.stream.storage import Storage

NORMS: Final = ("input_layernorm", "post_attention_layernorm")
_BIASED: Final = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


@dataclass(frozen=True, slots=True)
class TextGeometry:
    """The widths of a language model."""

    layers: int
    dim: int
    inner: int
    key_value_dim: int

    @classmethod
    def of(cls, config: Any) -> Self:
        """Return those of a `Qwen2_5_VLTextConfig`."""
        head = config.hidden_size // config.num_attention_heads
        return cls(
            config.num_hidden_layers,
            config.hidden_size,
            config.intermediate_size,
            config.num_key_value_heads * head,
        )


@dataclass(frozen=True, repr=False)
class TextLayout(Layout):
    """A `Layout` whose pieces are single linear layers of any width, few of them with a bias.

    Its small tensors are the norms, the biases, and each piece's scales [rows, 1] in float32.
    """

    @property
    def inputs(self) -> list[str]:
        """Names of all tensors of a layer."""
        weights = [f"{piece.name}.weight" for piece in self.pieces]
        biases = [f"{name}.bias" for name in _BIASED]
        return [*weights, *biases, *(f"{name}.weight" for name in NORMS)]

    @property
    @override
    def small_size(self) -> int:
        """Bytes of the tensors that stay on the device: norms, biases, scales."""
        biases = sum(piece.rows for piece in self.pieces if piece.name in _BIASED)
        rows = sum(piece.rows for piece in self.pieces)
        numbers = biases + len(NORMS) * self.width
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


def text_layout(geometry: TextGeometry, dtype: torch.dtype, storage: Storage) -> TextLayout:
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
    return TextLayout(pieces, dim, dtype, storage)
