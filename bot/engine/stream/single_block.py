"""One transformer block of Qwen-Image-2.1, as a function of its weights.

It computes what DiffSynth's `QwenImage21TransformerBlock` computes. Text and references come first,
see nothing behind them (a word nothing behind itself, a reference the whole of itself) and are
modulated as at timestep 0: so they do not depend on the picture that is drawn. `read_prefix` gives
their keys and values once, and a step takes the picture's tokens alone through the block.
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
    """Of a prompt and its references in one block, each [tokens, heads, head_dim]."""

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
    part: Tensor,
    modulation: Tensor,
    weights: SingleWeights,
    rope: Tensor,
    read: KeysValues,
    start: int,
    *,
    whole: bool,
) -> Tensor:
    """Return the block's `part` [tokens, dim] of what comes before the picture: words or a picture.

    Its keys and values are written into `read`, from `start` on; those of earlier parts are there.
    `rope` [tokens, head_dim / 2, 2] is the part's. `whole`: each token sees all of the part, as in
    a picture, and not only those before it.
    """
    end = start + len(part)
    heads = _heads(kernel, part, modulation, weights)
    query, key = (turned(heads[:, n], weights.norms[n], rope) for n in (0, 1))
    read.keys[start:end], read.values[start:end] = key, heads[:, 2]
    keys, values = read.keys[:end], read.values[:end]
    if whole:
        joint = attend(query, keys, values).flatten(1)
    else:
        mask = None
        if start:
            # torch's own causal mask begins at the first key, this one ends at the last.
            mask = torch.ones(len(part), end, dtype=torch.bool, device=part.device).tril(start)
        q, k, v = (each.transpose(0, 1)[None] for each in (query, keys, values))
        seen = functional.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None)
        joint = seen[0].transpose(0, 1).flatten(1)
    return _finished(kernel, part, joint, modulation, weights)


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
