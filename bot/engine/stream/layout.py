"""Layouts of a block's weights: one flat buffer that crosses the bus, and small tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, Self

import torch
from torch import Tensor

from bot.engine.stream.storage import Storage

# DiffSynth's activation is x * sigmoid(1.702 x). With 1.702 moved into the scales of the layer
# before it and out of those of the layer after it, it is SiLU: one pass instead of three.
QUICK_GELU: Final = 1.702
# Rows of a matrix that are packed at once: in float32, with what is made of them, a third of a GB.
_ROWS: Final = 2048


class Precision(StrEnum):
    """How block weights are stored and multiplied."""

    INT8 = "int8"
    """Stored in INT8, widened once a visit, multiplied in the activations' type."""
    INT8_FAST = "int8-fast"
    """Stored in INT8 and multiplied in INT8, activations scaled per token."""
    FP8 = "fp8"
    """Stored in FP8, widened once a visit, multiplied in the activations' type."""
    FP8_FAST = "fp8-fast"
    """Stored in FP8 and multiplied in FP8, activations scaled per token."""
    PLAIN = "plain"
    """Stored and multiplied in the activations' type (bfloat16, or float32 on a CPU)."""

    @property
    def storage(self) -> Storage:
        """How the weights are stored."""
        if self is Precision.PLAIN:
            return Storage.PLAIN
        return Storage.INT8 if self in (Precision.INT8, Precision.INT8_FAST) else Storage.FP8


Kind = Literal["block", "modulation"]
"""A block's parts: what every step needs, and what only a new schedule needs."""


@dataclass(frozen=True, slots=True)
class LatentShape:
    """Latents of a VAE: `channels` numbers for each square of `pixels` x `pixels`.

    A transformer's token is a square of `patch` x `patch` of them. `sides` is what a picture's
    sides are multiples of, in pixels.
    """

    channels: int
    pixels: int
    patch: int
    sides: int = 16

    def of(self, pictures: int, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the shape of so many pictures' latents; sizes in pixels."""
        return (pictures, self.channels, height // self.pixels, width // self.pixels)

    def size_of(self, shape: Sequence[int]) -> tuple[int, int]:
        """Return the width and height in pixels of one picture's latents of this shape.

        Raises `ValueError` where the shape is not [1, channels, height, width] in whole tokens.
        """
        height, width = shape[-2:]
        if tuple(shape) != (1, self.channels, height, width) or {
            height % self.patch,
            width % self.patch,
        } != {0}:
            raise ValueError(f"{tuple(shape)} is no shape of one picture's latents")
        return width * self.pixels, height * self.pixels

    def covering(self, width: int, height: int) -> tuple[int, int]:
        """Return the smallest size in pixels that can be drawn and has this one within it."""
        return -(-width // self.sides) * self.sides, -(-height // self.sides) * self.sides


@dataclass(frozen=True, slots=True)
class Geometry:
    """The widths of a transformer."""

    layers: int
    dim: int
    heads: int

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.heads

    @classmethod
    def of(cls, dit: Any) -> Self:
        """Return those of a network of DiffSynth's."""
        blocks, dim = dit.transformer_blocks, dit.img_in.out_features
        return cls(len(blocks), dim, dim // blocks[0].attn.norm_q.weight.shape[0])


class Piece(NamedTuple):
    """One matrix of the flat buffer, made of one or several linear layers stacked.

    The stored matrix takes inputs that are `in_gain` and gives outputs that are `out_gain` times
    those of the model's layer.
    """

    name: str
    sources: tuple[str, ...]
    rows: int
    columns: int
    out_gain: float = 1.0
    in_gain: float = 1.0


class Packed(NamedTuple):
    """A block ready for use: `flat` uint8, `small` the tensors that always stay on the device."""

    flat: Tensor
    small: dict[str, Tensor]


@dataclass(frozen=True, repr=False)
class Layout:
    """The order of `pieces` in a flat buffer; `dtype` is the activations' type."""

    pieces: tuple[Piece, ...]
    width: int
    dtype: torch.dtype
    storage: Storage
    norms: tuple[tuple[str, tuple[str, str]], ...] = ()
    biased: bool = True
    """Whether the layers have biases; else zeros stand for them, which products add anyhow."""

    def __post_init__(self) -> None:
        multiple = self.storage.multiple
        if self.width % multiple:
            raise ValueError(
                f"{self.storage} needs widths divisible by {multiple}, not {self.width}"
            )

    def __repr__(self) -> str:
        """Return all that a packed block depends on: caches are named by it.

        FP8 and plain weights say what they said before there was INT8.
        """
        old = {Storage.FP8: True, Storage.PLAIN: False}
        return (
            f"{type(self).__qualname__}(pieces={self.pieces!r}, width={self.width!r}, "
            f"dtype={self.dtype!r}, quantized={old.get(self.storage, str(self.storage))!r}, "
            f"norms={self.norms!r}{'' if self.biased else ', biased=False'})"
        )

    @property
    def quantized(self) -> bool:
        """Whether an element takes one byte, and rows have scales."""
        return self.storage.quantized

    @cached_property
    def elements(self) -> int:
        """How many weights the buffer holds."""
        return sum(piece.rows * piece.columns for piece in self.pieces)

    @property
    def size(self) -> int:
        """Bytes of the buffer."""
        return self.elements * (1 if self.quantized else self.dtype.itemsize)

    @property
    def small_size(self) -> int:
        """Bytes of the tensors that stay on the device: biases, scales, norms."""
        rows = sum(piece.rows for piece in self.pieces)
        chunks = self.elements // self.width
        return rows * self.dtype.itemsize + 4 * (rows + chunks) * self.quantized

    def matrices(self, buffer: Tensor) -> dict[str, Tensor]:
        """Return each piece as a view of `buffer`, which holds elements, not bytes."""
        views: dict[str, Tensor] = {}
        start = 0
        for piece in self.pieces:
            end = start + piece.rows * piece.columns
            views[piece.name] = buffer[start:end].view(piece.rows, piece.columns)
            start = end
        return views

    def stored(self, flat: Tensor) -> Tensor:
        """Return the used bytes of `flat` as elements of the stored type."""
        return flat[: self.size].view(self.storage.element(self.dtype))

    def pack(self, state: Mapping[str, Tensor], device: torch.device) -> Packed:
        """Build the block from its layers' tensors (names without the block's prefix).

        Works on a few rows at a time: temporary tensors have to fit into the smallest budget.
        """
        flat = torch.empty(self.size, dtype=torch.uint8, device=device)
        small: dict[str, Tensor] = {}
        scales: list[Tensor] = []
        for piece, view in zip(self.pieces, self._rows(flat), strict=True):
            small[f"{piece.name}.bias"] = self._bias(piece, state, device)
            weights = [state[f"{source}.weight"] for source in piece.sources]
            scale = self._fill(view, weights, piece.out_gain / piece.in_gain)
            if scale is not None:
                small[f"{piece.name}.scale"] = scale
                scales.append(scale.repeat_interleave(piece.columns // self.width))
        if scales:
            small["scales"] = torch.cat(scales)[:, None]
        for name, (query, key) in self.norms:
            pair = torch.stack([state[f"{query}.weight"], state[f"{key}.weight"]])
            small[name] = pair.to(device, torch.float32)
        return Packed(flat, small)

    def _bias(self, piece: Piece, state: Mapping[str, Tensor], device: torch.device) -> Tensor:
        if not self.biased:
            return torch.zeros(piece.rows, dtype=self.dtype, device=device)
        bias = torch.cat([state[f"{source}.bias"].to(device) for source in piece.sources])
        return (bias.float() * piece.out_gain).to(self.dtype)

    def _fill(self, view: Tensor, weights: Iterable[Tensor], gain: float = 1.0) -> Tensor | None:
        """Write matrices below one another into `view`, as bytes; return the rows' scales."""
        scales: list[Tensor] = []
        start = 0
        for rows in (part for weight in weights for part in weight.split(_ROWS)):
            moved, place = rows.to(view.device), view[start : start + len(rows)]
            start += len(rows)
            if self.quantized:
                quantized, scale = self.storage.quantize_rows(moved, gain)
                place.copy_(quantized.view(torch.uint8))
                scales.append(scale)
            else:
                place.copy_(moved.to(self.dtype).contiguous().view(torch.uint8))
        return torch.cat(scales) if scales else None

    def _rows(self, flat: Tensor) -> list[Tensor]:
        item = 1 if self.quantized else self.dtype.itemsize
        views: list[Tensor] = []
        start = 0
        for piece in self.pieces:
            end = start + piece.rows * piece.columns * item
            views.append(flat[start:end].view(piece.rows, piece.columns * item))
            start = end
        return views


def block_layout(geometry: Geometry, dtype: torch.dtype, storage: Storage) -> Layout:
    """Return the layout of a block's matrices that every step needs."""
    dim, gain = geometry.dim, QUICK_GELU if storage.quantized else 1.0
    pieces: list[Piece] = []
    for side, query, key, value, out in (
        ("img", "to_q", "to_k", "to_v", "to_out.0"),
        ("txt", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
    ):
        attention = tuple(f"attn.{name}" for name in (query, key, value))
        pieces += [
            Piece(f"{side}_qkv", attention, 3 * dim, dim),
            Piece(f"{side}_out", (f"attn.{out}",), dim, dim),
            Piece(f"{side}_up", (f"{side}_mlp.net.0.proj",), 4 * dim, dim, out_gain=gain),
            Piece(f"{side}_down", (f"{side}_mlp.net.2",), dim, 4 * dim, in_gain=gain),
        ]
    norms = (
        ("img_norms", ("attn.norm_q", "attn.norm_k")),
        ("txt_norms", ("attn.norm_added_q", "attn.norm_added_k")),
    )
    return Layout(tuple(pieces), dim, dtype, storage, norms)


def modulation_layout(geometry: Geometry, dtype: torch.dtype, storage: Storage) -> Layout:
    """Return the layout of the matrices that only a new schedule of timesteps needs."""
    dim = geometry.dim
    piece = Piece("modulation", ("img_mod.1", "txt_mod.1"), 12 * dim, dim)
    return Layout((piece,), dim, dtype, storage)


def single_layout(geometry: Geometry, dtype: torch.dtype, storage: Storage) -> Layout:
    """Return the layout of a block of Qwen-Image-2.1, whose modulation all blocks share."""
    dim = geometry.dim
    pieces = (
        Piece("qkv", ("attn.to_q", "attn.to_k", "attn.to_v"), 3 * dim, dim),
        Piece("out", ("attn.to_out.0",), dim, dim),
        Piece("up", ("img_mlp.gate_layer", "img_mlp.proj"), 6 * dim, dim),
        Piece("down", ("img_mlp.out",), dim, 3 * dim),
    )
    norms = (("norms", ("attn.norm_q", "attn.norm_k")),)
    return Layout(pieces, dim, dtype, storage, norms, biased=False)
