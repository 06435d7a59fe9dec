"""LoRA files for a transformer of two narrow blocks, in the names that writers use."""

from __future__ import annotations

from functools import cache

import torch
from safetensors.torch import save

from bot.engine.stream.layout import Geometry, Layout, block_layout, modulation_layout
from bot.engine.stream.storage import Storage

LAYERS = 2
_DIM, _RANK = 16, 2
_TARGETS = {
    "attn.to_q": (_DIM, _DIM),
    "attn.to_out.0": (_DIM, _DIM),
    "img_mlp.net.0.proj": (4 * _DIM, _DIM),
    "img_mod.1": (6 * _DIM, _DIM),
}


@cache
def layouts() -> tuple[Layout, ...]:
    geometry = Geometry(dim=_DIM, heads=1, layers=LAYERS)
    return tuple(
        make(geometry, torch.bfloat16, Storage.PLAIN) for make in (block_layout, modulation_layout)
    )


def loras() -> list[bytes]:
    return [
        _file("", "lora_A.weight", "lora_B.weight"),
        _file("transformer.", "lora_A.default_0.weight", "lora_B.default_0.weight"),
        _file("diffusion_model.", "lora_down.weight", "lora_up.weight", alpha=1.0),
        _file("lora_unet_", "lora_down.weight", "lora_up.weight", alpha=1.0, flat=True),
    ]


_PLACES = ("", "transformer.", "lora_unet_", "diffusion_model.", "base_model.model.")
_ENDS = (
    "lora_A.weight",
    "lora_B.weight",
    "lora_down.weight",
    "lora_up.weight",
    "alpha",
    "lora_A.default_0.weight",
    "lora_B.default_0.weight",
    "lora_magnitude_vector",
    "dora_scale",
    "lokr_w1",
    "hada_w1_a",
    "diff",
    "bias",
)
_OTHERS = ("img_in", "single_transformer_blocks.0.proj_mlp", "transformer_blocks.7.attn.to_q", "x")
_NUMBERS = (1.0, 0.0, -1.0, float("nan"), float("inf"), 1e38, 1e-30)


def assembled(recipe: bytes) -> bytes:
    """Return a whole file whose tensors the recipe chooses, five bytes each."""
    state: dict[str, torch.Tensor] = {}
    layers = [f"transformer_blocks.{block}.{name}" for block in range(2) for name in _TARGETS]
    layers += _OTHERS
    for at in range(0, len(recipe) - 4, 5):
        place, layer, end, shape, number = recipe[at : at + 5]
        key = f"{layers[layer % len(layers)]}.{_ENDS[end % len(_ENDS)]}"
        rows, columns = (0, 1, 2, 3, _DIM, 4 * _DIM)[shape % 6], (1, 2, _DIM, 64)[shape // 8 % 4]
        sizes = ((rows, columns), (rows,), (), (rows, columns, 1, 1))[shape // 64]
        value = torch.full(sizes, _NUMBERS[number % len(_NUMBERS)])
        kind = (torch.float32, torch.bfloat16, torch.float16, torch.float64)[number // 64]
        state[_PLACES[place % len(_PLACES)] + key] = value.to(kind)
    about = {"lora_alpha": "8", "r": "4"} if len(recipe) % 2 else None
    return save(state, about)


def _file(prefix: str, down: str, up: str, alpha: float | None = None, flat: bool = False) -> bytes:
    state: dict[str, torch.Tensor] = {}
    for target, (rows, columns) in _TARGETS.items():
        name = f"transformer_blocks.1.{target}"
        name = prefix + (name.replace(".", "_") if flat else name)
        state[f"{name}.{down}"] = torch.ones(_RANK, columns)
        state[f"{name}.{up}"] = torch.ones(rows, _RANK)
        if alpha is not None:
            state[f"{name}.alpha"] = torch.tensor(alpha)
    return save(state, {"lora_alpha": "2", "r": "2"})
