"""LoRA files: low-rank additions to a block's products, switched without touching the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from bot.catalogue.lora_format import not_there, read_format, refuse
from bot.catalogue.lora_layers import QWEN_IMAGE, LoraTarget
from bot.engine.stream.layout import Layout, Piece
from bot.errors import EngineError, EngineErrorKind
from bot.words import mark

_RANK_STEP: Final = 16


class LowRank(NamedTuple):
    """An addition up @ down to one stored matrix: `down` [rank, columns], `up` [rows, rank]."""

    down: Tensor
    up: Tensor


class Pair(NamedTuple):
    """An addition scale * up @ down to one linear layer, its tensors as they are in the file.

    They are maps of the file, which take no memory of their own: it is read again where needed.
    """

    down: Tensor
    up: Tensor
    scale: float

    @property
    def rank(self) -> int:
        """Columns of `up`."""
        return self.down.shape[0]


@dataclass(frozen=True, slots=True)
class Lora:
    """A parsed file. `name` distinguishes it from others and from its other strengths.

    `model` is what it was read as made for.
    """

    name: str
    blocks: Mapping[tuple[int, str], Pair]
    outer: Mapping[str, Pair]
    model: str = QWEN_IMAGE.model

    @property
    def file(self) -> str:
        """The file's name, as users know it."""
        return self.name.rsplit("@", 2)[0]


def parse(
    name: str,
    state: Mapping[str, Tensor],
    strength: float = 1.0,
    version: int = 0,
    metadata: Mapping[str, str] | None = None,
    target: LoraTarget = QWEN_IMAGE,
) -> Lora:
    """Read a LoRA's tensors and its header's `metadata`; see `read_format` for the names.

    `version` distinguishes files that had the same name one after the other.

    Raises `EngineError` (`REFUSED`) where anything in the file is not understood.
    """
    blocks: dict[tuple[int, str], Pair] = {}
    outer: dict[str, Pair] = {}
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    for found in read_format(name, shapes, metadata or {}, target):
        down, up = state[found.down_key].flatten(1), state[found.up_key].flatten(1)
        alpha = None if found.alpha_key is None else float(state[found.alpha_key])
        pair = Pair(down, up, strength * found.scale(alpha))
        if found.block is None:
            outer[found.layer] = pair
        else:
            blocks[found.block, found.layer] = pair
    return Lora(f"{name}@{strength}@{version}", blocks, outer, target.model)


def check_numbers(name: str, state: Mapping[str, Tensor]) -> None:
    """Raise `EngineError` (`REFUSED`) for tensors that are no finite numbers; reads all of them."""
    for key, tensor in state.items():
        if not tensor.is_floating_point():
            if tensor.numel() == 1 and not tensor.is_complex():
                continue  # an alpha
            sentence = mark("The LoRA {name} is stored as {dtype}, which is not supported.")
            refuse(sentence, name, dtype=str(tensor.dtype).removeprefix("torch."))
        # Both are NaN where one is, and in one pass: `isfinite` takes sixty times as long.
        least, most = torch.aminmax(tensor.float() if tensor.itemsize == 1 else tensor)
        if not (math.isfinite(least) and math.isfinite(most)):
            sentence = mark("The LoRA {name} is damaged: {key} holds numbers that are not finite.")
            refuse(sentence, name, key=key)


def joined_ranks(
    loras: Sequence[Lora], layouts: Iterable[Layout], layers: int
) -> dict[tuple[int, Piece], int]:
    """Return every matrix that gets an addition (its block, itself), and the addition's rank.

    Raises `EngineError` (`REFUSED`) for a file made for other widths or more blocks.
    """
    for lora in loras:
        for block, layer in lora.blocks:
            if block >= layers:
                not_there(lora.file, f"transformer_blocks.{block}.{layer}", lora.model)
    pieces = [piece for layout in layouts for piece in layout.pieces]
    ranks = {
        (block, piece): _joined_rank(loras, block, piece)
        for piece in pieces
        for block in range(layers)
    }
    return {key: rank for key, rank in ranks.items() if rank}


def _joined_rank(loras: Sequence[Lora], block: int, piece: Piece) -> int:
    rows, rank = piece.rows // len(piece.sources), 0
    for lora, _, source, pair in _additions(loras, block, piece):
        if pair.down.shape[1] != piece.columns or pair.up.shape != (rows, pair.rank):
            raise _foreign(lora, source, pair)
        rank += pair.rank
    return -(-rank // _RANK_STEP) * _RANK_STEP


def join(
    loras: Sequence[Lora], block: int, piece: Piece, dtype: torch.dtype, device: torch.device
) -> LowRank:
    """Return the sum of all additions to one stored matrix; there must be one.

    A matrix made of several layers gets their `down`s stacked and their `up`s on a
    diagonal. The rank is filled up with zeros to a multiple of 16.
    """
    rows, rank = piece.rows // len(piece.sources), _joined_rank(loras, block, piece)
    down = torch.zeros(rank, piece.columns, dtype=dtype, device=device)
    up = torch.zeros(piece.rows, rank, dtype=dtype, device=device)
    start = 0
    for _, place, _, pair in _additions(loras, block, piece):
        row, end = place * rows, start + pair.rank
        # In float32, and rounded once.
        down[start:end] = pair.down.to(device).float() / piece.in_gain
        up[row : row + rows, start:end] = pair.up.to(device).float() * (pair.scale * piece.out_gain)
        start = end
    return LowRank(down, up)


def _additions(
    loras: Sequence[Lora], block: int, piece: Piece
) -> Iterator[tuple[Lora, int, str, Pair]]:
    for lora in loras:
        for place, source in enumerate(piece.sources):
            pair = lora.blocks.get((block, source))
            if pair is not None:
                yield lora, place, source, pair


def _foreign(lora: Lora, layer: str, pair: Pair) -> EngineError:
    return EngineError(
        EngineErrorKind.REFUSED,
        f"{layer}: {tuple(pair.up.shape)} x {tuple(pair.down.shape)}",
        sentence=mark("The LoRA {name} is made for another model."),
        values={"name": lora.file},
    )


class OuterPatch:
    """Additions to the few layers outside of the blocks, by changing and restoring weights."""

    def __init__(self, outer: Any) -> None:
        self._outer = outer
        self._originals: dict[str, Tensor] = {}

    def check(self, loras: Sequence[Lora]) -> None:
        """Raise `EngineError` (`REFUSED`) where a LoRA is made for layers of another size."""
        for lora in loras:
            for name, pair in lora.outer.items():
                rows, columns = self._outer.get_submodule(name).weight.shape
                if (pair.up.shape[0], pair.down.shape[1]) != (rows, columns):
                    raise _foreign(lora, name, pair)

    def apply(self, loras: Sequence[Lora]) -> None:
        """Restore the original weights, then add what `loras` say."""
        for name, original in self._originals.items():
            self._outer.get_submodule(name).weight.data.copy_(original)
        self._originals.clear()
        for lora in loras:
            for name, pair in lora.outer.items():
                weight = self._outer.get_submodule(name).weight.data
                self._originals.setdefault(name, weight.cpu().clone())
                weight += (pair.scale * pair.up.float() @ pair.down.float()).to(weight)
