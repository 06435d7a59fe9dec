"""One transformer block of Qwen-Image, as a function of its weights.

It computes what DiffSynth's `QwenImageTransformerBlock` computes, for one picture and its one or
two guidance branches together, with the modulation already known. Fewer, larger operations than
DiffSynth's: query, key and value in one product, normalisation with modulation in one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bot.engine.stream.attention import attend
from bot.engine.stream.int8 import int8_linear
from bot.engine.stream.layout import QUICK_GELU, Geometry
from bot.engine.stream.quantize import Matmul, fp8_linear

EPSILON: Final = 1e-6
# Rows of a block's modulation, image first, text second.
_SHIFT1, _SCALE1, _GATE1, _SHIFT2, _SCALE2, _GATE2 = range(6)
_TEXT: Final = 6


class Matrix(NamedTuple):
    """A linear layer. `scale` is there when the product itself runs in eight bits.

    `down` [rank, columns] and `up` [rows, rank] add a low-rank product.
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor | None = None
    down: Tensor | None = None
    up: Tensor | None = None


class Stream(NamedTuple):
    """The image's or the text's half of a block. `norms` [2, head_dim] for query and key."""

    qkv: Matrix
    norms: Tensor
    out: Matrix
    up: Matrix
    down: Matrix


class Weights(NamedTuple):
    """A whole block."""

    image: Stream
    text: Stream


class Still(NamedTuple):
    """Image tokens behind the target's that are modulated as at timestep 0.

    `rows` [6, dim] are their modulation, as the first six of `run_block`'s; `rope` [tokens,
    head_dim / 2, 2] turns them, and says how many there are: a compiler leaves a shape open, and
    would compile anew for each number.
    """

    rows: Tensor
    rope: Tensor


class Kernel(NamedTuple):
    """What a compiled block is specialised on."""

    geometry: Geometry
    matmul: Matmul
    quick_gelu_folded: bool


Run = Callable[
    [Kernel, Tensor, list[Tensor], Tensor, Weights, Tensor, list[Tensor], Still | None],
    tuple[Tensor, list[Tensor]],
]


def run_block(
    kernel: Kernel,
    image: Tensor,
    texts: list[Tensor],
    modulation: Tensor,
    weights: Weights,
    image_rope: Tensor,
    text_ropes: list[Tensor],
    still: Still | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Return the block's image [branches, pixels, dim] and texts (each [tokens, dim]).

    `modulation` [12, dim] is shift, 1 + scale, gate, twice for the image, twice for the text;
    the ropes are [tokens, head_dim / 2, 2] (cosine, sine). `still` has what differs for the last
    of the image's tokens; `image_rope` is that of the others then. Both go through each product
    together.
    """
    lengths = [text.shape[0] for text in texts]
    text = torch.cat(texts)
    mod_i, mod_t = modulation[:_TEXT], modulation[_TEXT:]
    dim = image.shape[-1]
    mods, ropes = [mod_i], [image_rope]
    if still is not None:
        mods, ropes = [mod_i, still.rows], [image_rope, still.rope]
    parts = _split(image, ropes)

    image_qkv = linear(kernel.matmul, _normed(parts, mods, _SCALE1, _SHIFT1), weights.image.qkv)
    text_qkv = linear(
        kernel.matmul, _norm(text, mod_t[_SCALE1], mod_t[_SHIFT1]), weights.text.qkv, few=True
    )
    heads = (3, kernel.geometry.heads, kernel.geometry.head_dim)
    image_heads = image_qkv.unflatten(-1, heads)
    turning = list(zip(_split(image_heads, ropes), ropes, strict=True))
    image_out: list[Tensor] = []
    text_out: list[Tensor] = []
    rows = text_qkv.unflatten(-1, heads).split(lengths)
    for row, (text_heads, text_rope) in enumerate(zip(rows, text_ropes, strict=True)):
        query, key = (
            torch.cat(
                (
                    turned(text_heads[:, which], weights.text.norms[which], text_rope),
                    *(
                        turned(part[row, :, which], weights.image.norms[which], rope)
                        for part, rope in turning
                    ),
                )
            )
            for which in (0, 1)
        )
        value = torch.cat((text_heads[:, 2], image_heads[row, :, 2]))
        joint = attend(query, key, value).view(-1, dim)
        text_out.append(joint[: lengths[row]])
        image_out.append(joint[lengths[row] :])

    out = linear(kernel.matmul, _stack(image_out), weights.image.out)
    parts = _gated(parts, mods, _GATE1, _split(out, ropes))
    del out  # it would wait for the end beside what follows
    text = torch.addcmul(
        text, mod_t[_GATE1], linear(kernel.matmul, torch.cat(text_out), weights.text.out, few=True)
    )
    out = _mlp(kernel, _normed(parts, mods, _SCALE2, _SHIFT2), weights.image)
    parts = _gated(parts, mods, _GATE2, _split(out, ropes))
    del out
    text = torch.addcmul(
        text,
        mod_t[_GATE2],
        _mlp(kernel, _norm(text, mod_t[_SCALE2], mod_t[_SHIFT2]), weights.text, few=True),
    )
    return _joined(parts), list(text.split(lengths))


def _split(image: Tensor, ropes: list[Tensor]) -> list[Tensor]:
    """Return [branches, pixels, ...] in parts, of as many tokens as each rope turns."""
    if len(ropes) == 1:
        return [image]
    return list(image.split([rope.shape[0] for rope in ropes], 1))


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _normed(parts: list[Tensor], mods: list[Tensor], scale: int, shift: int) -> Tensor:
    return _joined([_norm(x, mod[scale], mod[shift]) for x, mod in zip(parts, mods, strict=True)])


def _gated(parts: list[Tensor], mods: list[Tensor], gate: int, added: list[Tensor]) -> list[Tensor]:
    """Return each part plus what was found for it, times its gate."""
    return [
        torch.addcmul(part, mod[gate], more)
        for part, mod, more in zip(parts, mods, added, strict=True)
    ]


def _stack(rows: list[Tensor]) -> Tensor:
    return rows[0][None] if len(rows) == 1 else torch.stack(rows)


def _norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return functional.layer_norm(x, (x.shape[-1],), scale, shift, EPSILON)


def linear(matmul: Matmul, x: Tensor, matrix: Matrix, *, few: bool = False) -> Tensor:
    """Return `x` [..., columns] times the matrix, as it is stored, plus its additions.

    `few` is said of a text's tokens, see `int8_linear`.
    """
    if matrix.scale is None:
        out = functional.linear(x, matrix.weight, matrix.bias)
    elif matmul is Matmul.INT8:
        out = int8_linear(x, matrix.weight, matrix.scale, matrix.bias, few=few)
    else:
        out = fp8_linear(x, matrix.weight, matrix.scale, matrix.bias, matmul)
    return _added(out, x, matrix)


def _added(out: Tensor, x: Tensor, matrix: Matrix) -> Tensor:
    """Add the low-rank product of `x`, where there is one."""
    if matrix.down is not None and matrix.up is not None:
        out = out + functional.linear(functional.linear(x, matrix.down), matrix.up)
    return out


def _mlp(kernel: Kernel, x: Tensor, stream: Stream, *, few: bool = False) -> Tensor:
    hidden = linear(kernel.matmul, x, stream.up, few=few)
    down = stream.down
    if kernel.matmul is Matmul.INT8 and down.scale is not None:
        # The activation is a part of the pass that rounds; only additions need it as it is.
        out = int8_linear(hidden, down.weight, down.scale, down.bias, silu=True, few=few)
        return out if down.down is None else _added(out, functional.silu(hidden), down)
    if kernel.quick_gelu_folded:
        hidden = functional.silu(hidden, inplace=True)
    else:
        hidden = hidden * torch.sigmoid(QUICK_GELU * hidden)
    return linear(kernel.matmul, hidden, down, few=few)


def turned(x: Tensor, norm: Tensor, rope: Tensor) -> Tensor:
    """Normalise [tokens, heads, head_dim] and turn it by `rope` [tokens, head_dim / 2, 2].

    Each query and key is handled on its own and goes into one joint tensor, so that a compiler
    writes it there at once.
    """
    wide = functional.rms_norm(x, (x.shape[-1],), eps=EPSILON) * norm
    parts, turns = wide.unflatten(-1, (-1, 2)), rope[:, None]
    if torch.compiler.is_compiling():
        # Compilers can't fuse complex numbers.
        cosine, sine = turns.unbind(-1)
        crossed = parts.flip(-1) * torch.stack((-sine, sine), -1)
        turned = parts * cosine[..., None] + crossed
    else:
        turned = torch.view_as_real(torch.view_as_complex(parts).mul_(torch.view_as_complex(turns)))
    return turned.flatten(-2).to(x.dtype)
