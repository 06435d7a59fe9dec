"""The layers of each family's transformer that a LoRA may change."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

BLOCK_LAYERS: Final = (
    *(f"attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")),
    *(f"attn.{name}" for name in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
    *(f"{side}_mlp.net.{place}" for side in ("img", "txt") for place in ("0.proj", "2")),
    "img_mod.1",
    "txt_mod.1",
)
"""The linear layers of each of Qwen-Image's blocks."""
_TIME: Final = (
    "time_text_embed.timestep_embedder.linear_1",
    "time_text_embed.timestep_embedder.linear_2",
)
OUTER_LAYERS: Final = ("img_in", "txt_in", "proj_out", "norm_out.linear", *_TIME)
"""The linear layers around the blocks."""


@dataclass(frozen=True)
class LoraTarget:
    """A transformer, by the name that people know and its linear layers in and around blocks."""

    model: str
    blocks: tuple[str, ...]
    outer: tuple[str, ...]

    @cached_property
    def flat_blocks(self) -> dict[str, str]:
        """The blocks' layers by their names with `_` for each dot."""
        return {layer.replace(".", "_"): layer for layer in self.blocks}

    @cached_property
    def flat_outer(self) -> dict[str, str]:
        """The layers around the blocks likewise."""
        return {layer.replace(".", "_"): layer for layer in self.outer}


QWEN_IMAGE: Final = LoraTarget("Qwen-Image", BLOCK_LAYERS, OUTER_LAYERS)
QWEN_IMAGE_21: Final = LoraTarget(
    "Qwen-Image-2.1",
    (
        *(f"attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")),
        *(f"img_mlp.{name}" for name in ("gate_layer", "proj", "out")),
    ),
    (
        *("img_in", "txt_in.in_layer", "txt_in.out_layer", "modulation.1"),
        *("proj_out", "norm_out.linear", *_TIME),
    ),
)


def lora_target(family: str) -> LoraTarget:
    """Return what LoRAs of a family of the catalogue are made for."""
    return QWEN_IMAGE_21 if family == "qwen-image-21" else QWEN_IMAGE
