"""INT8 with one scale a row, rotated: its rounding, its widening and its products.

Every 64 neighbours along the input dimension are rotated by an orthogonal matrix before rounding,
so that an outlier is shared out among them (ConvRot, arXiv:2512.03673). The matrix H is symmetric
and its own inverse: weights are stored as round(W H), a product is (x H)(W H)^T = x W^T, and
widening rotates back. Both sides of a product hold whole numbers, so it is exact in int32.

`int8_linear` runs as two operations: one pass rotates and rounds tokens, one product applies both
scales and the bias as it ends. On a GPU they are Triton kernels (`int8_launch`), which compilers
launch themselves; elsewhere plain code, taken as it is, gives the same int32 numbers.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from bot.engine.stream.lacking import lacking_to_compile

log = logging.getLogger(__name__)

INT8_MAX: Final = 127.0
GROUP: Final = 64
"""Neighbouring inputs that are rotated together; widths have to be divisible by it."""
TINY: Final = 1e-12
# Widened at once by the plain code: in float32, with what is made of them, a fifth of a GB.
_NUMBERS: Final = 2**24
# The regular Hadamard matrix of 4: no row of it, nor of its powers, is constant, so that a group
# whose values have a mean in common, as activations have, does not gather it in one place.
_REGULAR: Final = ((1, 1, 1, -1), (1, 1, -1, 1), (1, -1, 1, 1), (-1, 1, 1, 1))


@functools.cache
def rotation(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the matrix [64, 64], whose entries are 1/8 and -1/8: exact in every type."""
    four = torch.tensor(_REGULAR, dtype=torch.float32)
    whole = torch.kron(torch.kron(four, four), four) / 8
    return whole.to(device, dtype)


def rotate(x: Tensor) -> Tensor:
    """Return `x` [..., width] with each 64 neighbours rotated, in float32."""
    groups = x.float().unflatten(-1, (-1, GROUP))
    return (groups @ rotation(x.device, torch.float32)).flatten(-2)


def quantize_rows(weight: Tensor, gain: float = 1.0) -> tuple[Tensor, Tensor]:
    """Rotate `weight` [rows, columns] and round it to INT8; return it and its scales [rows].

    `rotate(weight) * gain` is about `quantized * scale`; scales are float32.
    """
    wide = rotate(weight)
    scale = wide.abs().amax(1).clamp(min=TINY) / INT8_MAX
    return wide.div_(scale[:, None]).round_().to(torch.int8), scale * gain


def dequantize(quantized: Tensor, scale: Tensor, out: Tensor) -> None:
    """Write `quantized` [chunks, width] times `scale` [chunks, 1], rotated back, into `out`.

    The kernel and the plain code write the same bits: a group's sums are exact in float32, and each
    is multiplied and rounded once.
    """
    if kernels_work(out.device):
        _kernels().widen(quantized, scale, out)
        return
    rows = max(1, _NUMBERS // quantized.shape[1])
    parts = zip(quantized.split(rows), scale.split(rows), out.split(rows), strict=True)
    for numbers, factor, place in parts:
        place.copy_(rotate(numbers).mul_(factor))


@torch.library.triton_op("image_bot::int8_tokens", mutates_args=())
def quantize_tokens(x: Tensor, silu: bool) -> tuple[Tensor, Tensor]:
    """Rotate `x` [tokens, width] and round it to INT8; return it and its scales [tokens], float32.

    `silu` applies SiLU first. A token with a number that is not finite has such a scale.
    """
    if kernels_work(x.device):
        return _kernels().quantize_tokens(x, silu=silu)
    return _plain_tokens(x, silu)


@torch.library.custom_op("image_bot::plain_int8_tokens", mutates_args=())
def _plain_tokens(x: Tensor, silu: bool) -> tuple[Tensor, Tensor]:
    turned = rotate(functional.silu(x) if silu else x)
    scale = turned.abs().amax(-1).clamp(min=TINY) / INT8_MAX
    return turned.div_(scale[:, None]).round_().to(torch.int8), scale


@_plain_tokens.register_fake
def _(x: Tensor, silu: bool) -> tuple[Tensor, Tensor]:
    del silu
    return torch.empty_like(x, dtype=torch.int8), x.new_empty(x.shape[0], dtype=torch.float32)


@torch.library.triton_op("image_bot::int8_product", mutates_args=())
def scaled_product(
    tokens: Tensor,
    token_scale: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    dtype: torch.dtype,
    few: bool,
) -> Tensor:
    """Return `tokens` [tokens, columns] times `weight` [rows, columns], scaled, plus `bias`.

    Both are INT8, their scales [tokens] and [rows] float32; the result is of `dtype`. `few` has the
    tiles of a text's few tokens, and changes no bit.
    """
    if kernels_work(tokens.device):
        return _kernels().product(tokens, token_scale, weight, scale, bias, dtype, few=few)
    return _plain_product(tokens, token_scale, weight, scale, bias, dtype)


@torch.library.custom_op("image_bot::plain_int8_product", mutates_args=())
def _plain_product(
    tokens: Tensor,
    token_scale: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    out = whole_product(tokens, weight).float() * token_scale[:, None] * scale
    return (out + bias.float()).to(dtype)


@_plain_product.register_fake
def _(
    tokens: Tensor,
    token_scale: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    del token_scale, scale, bias
    return tokens.new_empty(tokens.shape[0], weight.shape[0], dtype=dtype)


def whole_product(tokens: Tensor, weight: Tensor) -> Tensor:
    """Return the product of INT8 `tokens` [tokens, columns] and `weight` [rows, columns], int32."""
    multiply: Any = torch._int_mm  # noqa: SLF001  # pyright: ignore[reportPrivateImportUsage]
    return multiply(tokens, weight.t())


def int8_linear(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    silu: bool = False,
    few: bool = False,
) -> Tensor:
    """Return `x` [..., columns] times rotated INT8 `weight` [rows, columns], plus `bias`.

    `silu` applies SiLU to `x` first, in the pass that rounds it. `few` says that `x` has as few
    tokens as a text: a compiler that leaves their number open could not ask for it.
    """
    tokens, token_scale = quantize_tokens(x.reshape(-1, x.shape[-1]), silu)
    out = scaled_product(tokens, token_scale, weight, scale, bias, x.dtype, few)
    return out.reshape(*x.shape[:-1], -1)


@functools.cache
def kernels_work(device: torch.device) -> bool:
    """Whether Triton's kernels run on `device` and widen as the plain code does."""
    if device.type != "cuda" or lacking_to_compile(device) is not None:
        return False
    generator = torch.Generator(device).manual_seed(0)
    weight = torch.randn(16, 8 * GROUP, generator=generator, device=device)
    quantized, scale = quantize_rows(weight)
    out = torch.empty_like(weight, dtype=torch.bfloat16)
    try:
        _kernels().widen(quantized, scale[:, None], out)
        refusal = None if torch.equal(out, _widened(quantized, scale)) else "it widens wrongly"
    except Exception as error:  # noqa: BLE001 - compilers and drivers fail in countless ways
        refusal = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    if refusal is not None:
        log.warning("INT8 goes on without kernels of its own, more slowly: %s.", refusal)
    return refusal is None


def _widened(quantized: Tensor, scale: Tensor) -> Tensor:
    return (rotate(quantized) * scale[:, None]).to(torch.bfloat16)


def _kernels() -> Any:
    # Triton is not there on every system, and takes a moment.
    from bot.engine.stream import int8_launch  # noqa: PLC0415

    return int8_launch
