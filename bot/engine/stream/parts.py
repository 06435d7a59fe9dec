"""Parts that the transformer's and the text encoder's published files are cut into."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch

from bot.engine.stream.items import AsPublished, Item, Plain, Use
from bot.engine.stream.layout import (
    Geometry,
    Layout,
    block_layout,
    modulation_layout,
    single_layout,
)
from bot.engine.stream.published import Sources
from bot.engine.stream.storage import Storage
from bot.engine.stream.text_layout import QWEN3, QWEN25, TextFamily, TextGeometry, text_layout

OUTER: Final = "outer"
_BLOCK: Final = re.compile(r"transformer_blocks\.(\d+)\.(.+)")
_MODULATION: Final = ("img_mod.", "txt_mod.")
TABLE: Final = "table"
TABLE_WEIGHT: Final = "embed_tokens.weight"
VISION: Final = "vision"
HEAD: Final = "head"
HEAD_WEIGHT: Final = "lm_head.weight"
_VISION: Final = re.compile(r"(?:model\.)?visual\.((?:blocks\.(\d+)\.)?.+)")

MakeLayout = Callable[[Geometry, torch.dtype, Storage], Layout]


@dataclass(frozen=True, slots=True)
class BlockParts:
    """The parts of a transformer's blocks; `modulation` is None where blocks have none."""

    block: MakeLayout
    modulation: MakeLayout | None = None


DOUBLE_PARTS: Final = BlockParts(block_layout, modulation_layout)
"""Qwen-Image's."""
SINGLE_PARTS: Final = BlockParts(single_layout)
"""Qwen-Image-2.1's."""


@dataclass(frozen=True, slots=True)
class ModelParts:
    """How the published files of a family of models are cut."""

    blocks: BlockParts = DOUBLE_PARTS
    text: TextFamily = QWEN25


PARTS: Final[Mapping[str, ModelParts]] = {
    "qwen-image": ModelParts(),
    "qwen-image-21": ModelParts(SINGLE_PARTS, QWEN3),
}
"""By the family's name in the catalogue; those alone have a weights cache."""


def transformer_geometry(sources: Sources) -> Geometry:
    """Return the widths, by the files' headers."""
    layers = {int(match[1]) for name in sources.names if (match := _BLOCK.fullmatch(name))}
    _, (dim, _) = sources.spec("img_in.weight")
    _, (head_dim,) = sources.spec("transformer_blocks.0.attn.norm_q.weight")
    return Geometry(max(layers) + 1, dim, dim // head_dim)


def transformer_items(
    sources: Sources,
    dtype: torch.dtype,
    *,
    storage: Storage,
    modulation_storage: Storage,
    parts: BlockParts = DOUBLE_PARTS,
) -> list[Item]:
    """Return "outer" (everything but the blocks, in `dtype`), then "block.i", "modulation.i".

    The latter where there is such a part. Raises `EngineError` (`LOAD_FAILED`) that names a weight
    which a block lacks: the files are another kind's.
    """
    geometry = transformer_geometry(sources)
    blocks: list[dict[str, str]] = [{} for _ in range(geometry.layers)]
    modulations: list[dict[str, str]] = [{} for _ in range(geometry.layers)]
    outer: dict[str, str] = {}
    for full in sources.names:
        match = _BLOCK.fullmatch(full)
        if match is None:
            outer[full] = full
        else:
            kinds = modulations if match[2].startswith(_MODULATION) else blocks
            kinds[int(match[1])][match[2]] = full
    whole = parts.block(geometry, dtype, storage)
    steps = parts.modulation and parts.modulation(geometry, dtype, modulation_storage)
    items = [Item(OUTER, outer, Plain(dtype))]
    for index, (block, modulation) in enumerate(zip(blocks, modulations, strict=True)):
        _require(sources, index, whole, block)
        items.append(Item(f"block.{index}", block, whole))
        if steps is not None:
            _require(sources, index, steps, modulation)
            items.append(Item(f"modulation.{index}", modulation, steps))
    return items


def _require(sources: Sources, index: int, layout: Layout, there: Mapping[str, str]) -> None:
    for name in (f"{source}.weight" for piece in layout.pieces for source in piece.sources):
        if name not in there:
            sources.spec(f"transformer_blocks.{index}.{name}")  # raises


def key_of(key: str) -> tuple[str, int]:
    """Return ("block", 3) of "block.3"; "outer" has -1."""
    kind, _, index = key.partition(".")
    return kind, int(index) if index else -1


def _text_prefix(sources: Sources) -> str:
    """Return how the language model's names begin: published files and newer ones differ."""
    end = TABLE_WEIGHT
    return next((n.removesuffix(end) for n in sources.names if n.endswith(end)), "model.")


def text_geometry(sources: Sources) -> TextGeometry:
    """Return the widths of the language model, by the files' headers."""
    prefix = _text_prefix(sources)
    layer = re.compile(rf"{re.escape(prefix)}layers\.(\d+)\..+")
    layers = {int(match[1]) for name in sources.names if (match := layer.fullmatch(name))}
    first = f"{prefix}layers.{min(layers)}."
    _, (inner, dim) = sources.spec(f"{first}mlp.gate_proj.weight")
    _, (key_value, _) = sources.spec(f"{first}self_attn.k_proj.weight")
    return TextGeometry(max(layers) + 1, dim, inner, key_value)


def text_items(
    sources: Sources,
    geometry: TextGeometry,
    dtype: torch.dtype,
    storage: Storage,
    family: TextFamily = QWEN25,
) -> list[Item]:
    """Return "outer" (the last norm) and "layer.i"; then what no load hands out: see `Use`.

    That is the embedding table, of which a prompt's words are looked up, the vision tower by its
    blocks (`load_vision` loads it), and the language head (`load_writer` does).
    """
    prefix = _text_prefix(sources)
    layout = text_layout(geometry, dtype, storage, family)
    items = [Item(OUTER, {"norm.weight": f"{prefix}norm.weight"}, Plain(dtype))]
    for index in range(geometry.layers):
        start = f"{prefix}layers.{index}."
        names = {name: f"{start}{name}" for name in layout.inputs}
        items.append(Item(f"layer.{index}", names, layout))
    table = {TABLE_WEIGHT: f"{prefix}{TABLE_WEIGHT}"}
    items.append(Item(TABLE, table, AsPublished(), Use.LOOKED_UP))
    if HEAD_WEIGHT in sources.names:
        items.append(Item(HEAD, {"weight": HEAD_WEIGHT}, AsPublished(), Use.KEPT))
    tower: dict[str, dict[str, str]] = {}
    for full in sources.names:
        if match := _VISION.fullmatch(full):
            key = VISION if match[2] is None else f"{VISION}.{match[2]}"
            tower.setdefault(key, {})[match[1]] = full
    items += [Item(key, names, AsPublished(), Use.KEPT) for key, names in tower.items()]
    return items
