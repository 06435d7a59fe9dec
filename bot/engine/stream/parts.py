"""Parts that the transformer's and the text encoder's published files are cut into."""

from __future__ import annotations

import re
from typing import Final

import torch
from torch import Tensor

from bot.engine.stream.cache import Item, Plain
from bot.engine.stream.layout import Geometry, block_layout, modulation_layout
from bot.engine.stream.published import Sources
from bot.engine.stream.storage import Storage
from bot.engine.stream.text_layout import TextGeometry, text_layout

OUTER: Final = "outer"
_BLOCK: Final = re.compile(r"transformer_blocks\.(\d+)\.(.+)")
_MODULATION: Final = ("img_mod.", "txt_mod.")


def transformer_geometry(sources: Sources) -> Geometry:
    """Return the widths, by the files' headers."""
    layers = {int(match[1]) for name in sources.names if (match := _BLOCK.fullmatch(name))}
    _, (dim, _) = sources.spec("img_in.weight")
    _, (head_dim,) = sources.spec("transformer_blocks.0.attn.norm_q.weight")
    return Geometry(max(layers) + 1, dim, dim // head_dim)


def transformer_items(
    sources: Sources, dtype: torch.dtype, *, storage: Storage, modulation_storage: Storage
) -> list[Item]:
    """Return "outer" (everything but the blocks, in `dtype`), then "block.i", "modulation.i"."""
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
    whole = block_layout(geometry, dtype, storage)
    steps = modulation_layout(geometry, dtype, modulation_storage)
    items = [Item(OUTER, outer, Plain(dtype))]
    for index, (block, modulation) in enumerate(zip(blocks, modulations, strict=True)):
        items.append(Item(f"block.{index}", block, whole))
        items.append(Item(f"modulation.{index}", modulation, steps))
    return items


def key_of(key: str) -> tuple[str, int]:
    """Return ("block", 3) of "block.3"; "outer" has -1."""
    kind, _, index = key.partition(".")
    return kind, int(index) if index else -1


def _text_prefix(sources: Sources) -> str:
    """Return how the language model's names begin: published files and newer ones differ."""
    end = "embed_tokens.weight"
    return next((n.removesuffix(end) for n in sources.names if n.endswith(end)), "model.")


def text_items(
    sources: Sources, geometry: TextGeometry, dtype: torch.dtype, storage: Storage
) -> list[Item]:
    """Return "outer" (the last norm) and "layer.i"; no vision tower, no `lm_head`, no table."""
    prefix = _text_prefix(sources)
    layout = text_layout(geometry, dtype, storage)
    items = [Item(OUTER, {"norm.weight": f"{prefix}norm.weight"}, Plain(dtype))]
    for index in range(geometry.layers):
        start = f"{prefix}layers.{index}."
        names = {name: f"{start}{name}" for name in layout.inputs}
        items.append(Item(f"layer.{index}", names, layout))
    return items


def text_table(sources: Sources) -> Tensor:
    """Return the embedding table [words, width] as a view of its file: a look-up reads its rows."""
    return sources.tensor(f"{_text_prefix(sources)}embed_tokens.weight")
