"""LoRA files: low-rank additions to a block's products, switched without touching the weights."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from bot.engine.stream.layout import Layout, Piece
from bot.errors import EngineError, EngineErrorKind
from bot.words import mark

logger = logging.getLogger(__name__)

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
    """An addition up @ down to one linear layer: `down` [rank, columns], `up` [rows, rank]."""

    down: Tensor
    up: Tensor


@dataclass(frozen=True, slots=True)
class Lora:
    """A parsed file. `name` tells it apart from others; strength and alpha are in `up` already."""

    name: str
    blocks: Mapping[tuple[int, str], LowRank]
    outer: Mapping[str, LowRank]


def parse(
    name: str,
    state: Mapping[str, Tensor],
    layouts: Iterable[Layout],
    strength: float = 1.0,
    version: int = 0,
) -> Lora:
    """Read a LoRA's tensors in DiffSynth's, PEFT's, diffusers' or kohya's way of naming.

    `version` tells files apart that had the same name, one after the other.

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
    blocks: dict[tuple[int, str], LowRank] = {}
    outer: dict[str, LowRank] = {}
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
            logger.warning("The LoRA %s has an addition to %s, which is unknown.", name, target)
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


def _scaled(found: Mapping[str, Tensor], strength: float) -> LowRank:
    down, up = found["down"].flatten(1), found["up"].flatten(1)
    if "alpha" in found:
        strength *= float(found["alpha"]) / down.shape[0]
    return LowRank(down, up.float() * strength)


def join(loras: Sequence[Lora], block: int, piece: Piece, dtype: torch.dtype) -> LowRank | None:
    """Return the sum of all additions to one stored matrix, in main memory, or None.

    A matrix made of several layers gets their `down`s on one another and their `up`s on a
    diagonal. The rank is filled up with zeros to a multiple of 16.

    Raises `EngineError` (`REFUSED`) for a file made for other widths.
    """
    rows = piece.rows // len(piece.sources)
    downs: list[Tensor] = []
    ups: list[tuple[int, Tensor]] = []
    for lora in loras:
        for place, source in enumerate(piece.sources):
            pair = lora.blocks.get((block, source))
            if pair is None:
                continue
            if pair.down.shape[1] != piece.columns or pair.up.shape[0] != rows:
                raise _foreign(lora, source, pair)
            downs.append(pair.down.float() / piece.in_gain)
            ups.append((place * rows, pair.up * piece.out_gain))
    if not downs:
        return None
    total = sum(down.shape[0] for down in downs)
    rank = -(-total // _RANK_STEP) * _RANK_STEP
    down = torch.zeros(rank, piece.columns)
    up = torch.zeros(piece.rows, rank)
    start = 0
    for part, (row, columns) in zip(downs, ups, strict=True):
        end = start + part.shape[0]
        down[start:end] = part
        up[row : row + rows, start:end] = columns
        start = end
    return LowRank(down.to(dtype), up.to(dtype))


def _foreign(lora: Lora, layer: str, pair: LowRank) -> EngineError:
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
                weight += (pair.up @ pair.down.float()).to(weight)
