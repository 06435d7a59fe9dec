"""The vision tower for batches of pictures of one size, and prompts with pictures in them.

The same values as `Qwen2_5_VisionTransformerPretrainedModel` gives for one picture at a time (a
test compares them), with masks in place of windows, so that a batch compiles into few kernels.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from bot.engine.tiny.tokenizer import IMAGE_ID
from bot.lab.tiny.train.flow import Layer, turned_halves

SEEN: Final = 224
"""Side of a square picture in the vision tower, in pixels."""
_PATCH: Final = 14
_MERGED: Final = 2
_WINDOW: Final = 8
"""Side of a window, in patches: 112 pixels."""
# OpenAI's mean and deviation of pictures, which Qwen2.5-VL's processor takes off.
_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION: Final = (0.26862954, 0.26130258, 0.27577711)
PICTURE_TOKENS: Final = (SEEN // _PATCH // _MERGED) ** 2


def shrunk(pixels: Tensor) -> Tensor:
    """Return uint8 [pictures, height, width, 3] as uint8 [pictures, 3, 224, 224]."""
    wide = pixels.permute(0, 3, 1, 2).float()
    small = functional.interpolate(wide, (SEEN, SEEN), mode="bicubic", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8)


def picture_states(visual: Any, pictures: Tensor, run: Layer) -> Tensor:
    """Return rows [pictures, 64, width] of the language model of uint8 [pictures, 3, 224, 224].

    `run` is `vision_block`, compiled or as it is.
    """
    device = pictures.device
    mean, deviation = (
        torch.tensor(one, device=device)[:, None, None] for one in (_MEAN, _DEVIATION)
    )
    normal = (pictures.float() / 255 - mean) / deviation
    side = SEEN // _PATCH // _MERGED
    grid = normal.unflatten(2, (side, _MERGED, _PATCH)).unflatten(5, (side, _MERGED, _PATCH))
    patches = grid.permute(0, 2, 5, 3, 6, 1, 4, 7).flatten(1, 4).flatten(2)
    weight = visual.patch_embed.proj.weight.sum(2)  # a picture is both of the frames
    state = functional.linear(patches, weight.flatten(1))
    rows, columns = _rows_and_columns(side, device)
    width = state.shape[-1] // visual.blocks[0].attn.num_heads
    powers = torch.arange(0, width // 2, 2, device=device, dtype=torch.float32) / (width // 2)
    angles = torch.cat([each[:, None] * 10000.0**-powers for each in (rows, columns)], 1)
    cosine, sine = angles.cos(), angles.sin()
    window = rows // _WINDOW * side + columns // _WINDOW
    within = window[:, None] == window[None, :]
    everywhere = torch.ones_like(within)
    for index, block in enumerate(visual.blocks):
        mask = everywhere if index in visual.fullatt_block_indexes else within
        state = run(block, state, cosine, sine, mask)
    merger = visual.merger
    return merger.mlp(merger.ln_q(state).unflatten(1, (-1, _MERGED**2)).flatten(2))


def _rows_and_columns(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return each patch's row and column; the four of a token stand together."""
    axes = (torch.arange(count, device=device) for count in (side, side, _MERGED, _MERGED))
    row, column, down, across = torch.meshgrid(*axes, indexing="ij")
    return (row * _MERGED + down).flatten(), (column * _MERGED + across).flatten()


def vision_block(block: Any, state: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor) -> Tensor:
    """Do what `Qwen2_5_VLVisionBlock` does; `mask` [patches, patches] says who sees whom."""
    attn = block.attn
    heads = attn.qkv(block.norm1(state)).unflatten(-1, (3, attn.num_heads, -1))
    query, key, value = heads.unbind(2)
    query, key = (turned_halves(one, cosine, sine).to(value.dtype) for one in (query, key))
    out = functional.scaled_dot_product_attention(
        *(one.transpose(1, 2) for one in (query, key, value)), attn_mask=mask
    )
    state = state + attn.proj(out.transpose(1, 2).flatten(2))
    mlp, x = block.mlp, block.norm2(state)
    return state + mlp.down_proj(functional.silu(mlp.gate_proj(x)) * mlp.up_proj(x))


def with_pictures(model: Any, ids: Tensor, pictures: Tensor | None) -> Tensor:
    """Return the embeddings [prompts, tokens, width] of `ids` with pictures' rows in their places.

    `pictures` [prompts, rows, width] are those of all of a prompt's pictures, in order; every
    prompt has as many places for them, or none at all.
    """
    state = model.embed_tokens(ids)
    if pictures is None:
        return state
    place = ids == IMAGE_ID
    order = (place.cumsum(1) - 1).clamp(min=0)
    rows = pictures.to(state.dtype).gather(1, order[..., None].expand(-1, -1, pictures.shape[-1]))
    return torch.where(place[..., None], rows, state)


def places_of(ids: Tensor) -> Tensor:
    """Return the positions [prompts, 3, tokens] (time, height, width) of prompts with pictures.

    As transformers' `get_rope_index`: text goes on behind the longer side of a picture.
    """
    side = SEEN // _PATCH // _MERGED
    image = ids == IMAGE_ID
    before = functional.pad(image[:, :-1], (1, 0), value=False)
    starts = image & ~before  # pictures never touch: there are words between them
    within = (image.cumsum(1) - 1) % (side * side)
    # Each picture takes `side` positions, text one; a picture's rows stand at its start.
    step = torch.where(image, 0, 1) + torch.where(image & (within == side * side - 1), side, 0)
    begin = functional.pad(step.cumsum(1)[:, :-1], (1, 0))
    first = torch.where(starts, begin, 0).cummax(1).values
    base = torch.where(image, first, begin)
    row = torch.where(image, within // side, 0)
    column = torch.where(image, within % side, 0)
    return torch.stack([base, base + row, base + column], 1)
