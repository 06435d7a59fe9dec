"""LoRA files: low-rank additions to a block's products, switched without touching the weights."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from bot.engine.stream.layout import Layout, Piece
from bot.errors import EngineError, EngineErrorKind
from bot.words import mark

log = logging.getLogger(__name__)

_PREFIXES: Final = ("base_model.model.", "diffusion_model.", "transformer.", "dit.", "lora_unet_")
_PART: Final = re.compile(
    r"^(?P<target>.+?)\.(?:(?P<down>lora_A|lora_down|lora\.down)|(?P<up>lora_B|lora_up|lora\.up))"
    r"(?:\.default)?(?:\.weight)?$"
)
_BLOCK: Final = re.compile(r"^transformer_blocks[._](\d+)[._](.+)$")
_OUTER: Final = (
    "img_in",
    "txt_in",
    "proj_out",
    "norm_out.linear",
    "time_text_embed.timestep_embedder.linear_1",
    "time_text_embed.timestep_embedder.linear_2",
)
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
    """A parsed file. `name` distinguishes it from others and from its other strengths."""

    name: str
    blocks: Mapping[tuple[int, str], Pair]
    outer: Mapping[str, Pair]


def parse(
    name: str,
    state: Mapping[str, Tensor],
    layouts: Iterable[Layout],
    strength: float = 1.0,
    version: int = 0,
) -> Lora:
    """Read a LoRA's tensors in DiffSynth's, PEFT's, diffusers' or kohya's way of naming.

    `version` distinguishes files that had the same name one after the other.

    Raises `EngineError` (`REFUSED`) when the file holds nothing for this model.
    """
    sources = [s for layout in layouts for piece in layout.pieces for s in piece.sources]
    flat_names = {source.replace(".", "_"): source for source in sources}
    flat_outer = {target.replace(".", "_"): target for target in _OUTER}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        short = _without_prefix(key)
        match = _PART.match(short)
        if match is not None:
            side = "down" if match["down"] else "up"
            parts.setdefault(match["target"], {})[side] = tensor
        elif short.endswith(".alpha"):
            parts.setdefault(short.removesuffix(".alpha"), {})["alpha"] = tensor
    blocks: dict[tuple[int, str], Pair] = {}
    outer: dict[str, Pair] = {}
    for target, found in parts.items():
        block = _BLOCK.match(target)
        source = flat_names.get(block[2].replace(".", "_")) if block else None
        if "down" not in found or "up" not in found:
            continue
        pair = _scaled(found, strength)
        if block is not None and source is not None:
            blocks[int(block[1]), source] = pair
        elif (outside := flat_outer.get(target.replace(".", "_"))) is not None:
            outer[outside] = pair
        else:
            log.warning("The LoRA %s has an addition to %s, which is unknown.", name, target)
    if not blocks and not outer:
        raise EngineError(
            EngineErrorKind.REFUSED,
            f"no known target among {len(state)} tensors",
            sentence=mark("The LoRA {name} is not made for Qwen-Image."),
            values={"name": name},
        )
    return Lora(f"{name}@{strength}@{version}", blocks, outer)


def _without_prefix(key: str) -> str:
    shorter = True
    while shorter:
        shorter = False
        for prefix in _PREFIXES:
            if key.startswith(prefix):
                key, shorter = key.removeprefix(prefix), True
    return key


def _scaled(found: Mapping[str, Tensor], strength: float) -> Pair:
    down, up = found["down"].flatten(1), found["up"].flatten(1)
    if "alpha" in found:
        strength *= float(found["alpha"]) / down.shape[0]
    return Pair(down, up, strength)


def joined_ranks(
    loras: Sequence[Lora], layouts: Iterable[Layout], layers: int
) -> dict[tuple[int, Piece], int]:
    """Return every matrix that gets an addition (its block, itself), and the addition's rank.

    Raises `EngineError` (`REFUSED`) for a file made for other widths.
    """
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
        values={"name": lora.name.rsplit("@", 2)[0]},
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
