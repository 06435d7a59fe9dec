"""One transformer block of Qwen-Image-2.1, as a function of its weights.

It computes what DiffSynth's `QwenImage21TransformerBlock` computes. The text comes first, is
causal and is modulated as at timestep 0: so it depends on the prompt alone. `read_prefix` gives
its keys and values once, and a step takes the picture's tokens alone through the block.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bot.engine.stream.attention import attend
from bot.engine.stream.block import EPSILON, Matrix, linear, turned
from bot.engine.stream.layout import Geometry
from bot.engine.stream.quantize import Matmul

# Rows of the modulation.
_SCALE1, _GATE1, _SCALE2, _GATE2 = range(4)


class SingleWeights(NamedTuple):
    """A whole block. `norms` [2, head_dim] for query and key; `up` is gate and value."""

    qkv: Matrix
    norms: Tensor
    out: Matrix
    up: Matrix
    down: Matrix


class SingleKernel(NamedTuple):
    """What a compiled block is specialised on."""

    geometry: Geometry
    matmul: Matmul


class KeysValues(NamedTuple):
    """A prompt's keys and values in one block, each [tokens, heads, head_dim]."""

    keys: Tensor
    values: Tensor


def run_single_block(
    kernel: SingleKernel,
    image: Tensor,
    modulation: Tensor,
    weights: SingleWeights,
    ropes: list[Tensor],
    prefixes: list[KeysValues],
) -> Tensor:
    """Return the block's image [branches, pixels, dim].

    `modulation` [4, dim] is 1 + scale and tanh(gate), twice; the branches' ropes are [pixels,
    head_dim / 2, 2] (cosine, sine), for the picture's place follows the prompt's length.
    """
    joint = _attended(kernel, image, modulation, weights, ropes, prefixes)
    return _finished(kernel, image, joint, modulation, weights)


def _attended(
    kernel: SingleKernel,
    image: Tensor,
    modulation: Tensor,
    weights: SingleWeights,
    ropes: list[Tensor],
    prefixes: list[KeysValues],
) -> Tensor:
    """Return what attention finds [branches, pixels, dim]; queries and keys are gone by then."""
    heads = _heads(kernel, image, modulation, weights)
    rows: list[Tensor] = []
    for row, (rope, prefix) in enumerate(zip(ropes, prefixes, strict=True)):
        query, key = (turned(heads[row, :, n], weights.norms[n], rope) for n in (0, 1))
        keys = torch.cat((prefix.keys, key))
        values = torch.cat((prefix.values, heads[row, :, 2]))
        rows.append(attend(query, keys, values).flatten(1))
    return rows[0][None] if len(rows) == 1 else torch.stack(rows)


def read_prefix(
    kernel: SingleKernel,
    text: Tensor,
    modulation: Tensor,
    weights: SingleWeights,
    rope: Tensor,
) -> tuple[Tensor, KeysValues]:
    """Return the block's text [tokens, dim], and its keys and values for the pictures."""
    heads = _heads(kernel, text, modulation, weights)
    query, key = (turned(heads[:, n], weights.norms[n], rope) for n in (0, 1))
    read = KeysValues(key, heads[:, 2].contiguous())
    q, k, v = (each.transpose(0, 1)[None] for each in (query, *read))
    seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    joint = seen[0].transpose(0, 1).flatten(1)
    return _finished(kernel, text, joint, modulation, weights), read


def _heads(kernel: SingleKernel, x: Tensor, modulation: Tensor, weights: SingleWeights) -> Tensor:
    """Return query, key and value of every token, [..., 3, heads, head_dim]."""
    qkv = linear(kernel.matmul, _norm(x, modulation[_SCALE1]), weights.qkv)
    return qkv.unflatten(-1, (3, kernel.geometry.heads, kernel.geometry.head_dim))


def _finished(
    kernel: SingleKernel, x: Tensor, joint: Tensor, modulation: Tensor, weights: SingleWeights
) -> Tensor:
    """Add what attention found and what the feed-forward layers make of it."""
    x = torch.addcmul(x, modulation[_GATE1], linear(kernel.matmul, joint, weights.out))
    hidden = linear(kernel.matmul, _norm(x, modulation[_SCALE2]), weights.up)
    gate, value = hidden.chunk(2, dim=-1)
    down = linear(kernel.matmul, functional.silu(gate) * value, weights.down)
    return torch.addcmul(x, modulation[_GATE2], down)


def _norm(x: Tensor, scale: Tensor) -> Tensor:
    return functional.layer_norm(x, (x.shape[-1],), scale, None, EPSILON)
