"""FP8 (e4m3) with one scale per output row, and matrix products on it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

import torch
from torch import Tensor

log = logging.getLogger(__name__)

FP8: Final = torch.float8_e4m3fn
FP8_MAX: Final = 448.0
_TINY: Final = 1e-12


class Matmul(StrEnum):
    """How a product with weights in eight bits is computed."""

    ROW = "row"
    """FP8 x FP8, scales applied inside the kernel, accumulators promoted."""
    ROW_QUICK = "row-quick"
    """The same with the tensor cores' short accumulators: faster on some cards, less exact."""
    TENSOR = "tensor"
    """FP8 x FP8 with unit scales, the rows' scales applied afterwards."""
    INT8 = "int8"
    """INT8 x INT8, sums in int32; see `int8`."""
    WEIGHT_ONLY = "weight-only"
    """The weights are widened first and the product runs in the activations' type."""


def quantize_rows(weight: Tensor, gain: float = 1.0) -> tuple[Tensor, Tensor]:
    """Round `weight` [rows, columns] to FP8; return it and its scales [rows], float32.

    `weight * gain` is about `quantized * scale`.
    """
    wide = weight.float()
    scale = wide.abs().amax(1).clamp(min=_TINY) / FP8_MAX
    return (wide / scale[:, None]).clamp(-FP8_MAX, FP8_MAX).to(FP8), scale * gain


def dequantize(quantized: Tensor, scale: Tensor, out: Tensor) -> None:
    """Write `quantized` [chunks, width] times `scale` [chunks, 1] into `out`."""
    out.copy_(quantized)
    out.mul_(scale)


def dequantize_bytes(stored: Tensor, scale: Tensor, out: Tensor) -> None:
    """Do what `dequantize` does to the bytes of FP8 numbers, in a form that compiles into one pass.

    Triton refuses the type itself on cards before the RTX 40 series. An e4m3 number's sign,
    exponent and fraction, moved to where float16 has its own, are that number divided by 2^8: its
    exponent is biased by 7 and float16's by 15. Exact for every finite number; there is no other
    among weights.
    """
    code = stored.to(torch.int16)
    bits = ((code & 0x80) << 8) | ((code & 0x7F) << 7)
    out.copy_(bits.view(torch.float16).to(torch.float32) * (scale * 256.0))


def quantize_tokens(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round `x` [tokens, width] to FP8; return it and its scales [tokens, 1], float32."""
    peak = x.abs().amax(-1, keepdim=True).float().clamp(min=_TINY)
    # No clamp: what rounding puts above 448 is far below the 464 where e4m3 ends.
    return (x * (FP8_MAX / peak)).to(FP8), peak / FP8_MAX


def scaled_mm(*arguments: Any, **options: Any) -> Tensor:
    """Call torch's FP8 product, which has no public name."""
    function: Any = torch._scaled_mm  # noqa: SLF001  # pyright: ignore[reportPrivateImportUsage]
    return function(*arguments, **options)


def fp8_linear(
    x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, matmul: Matmul
) -> Tensor:
    """Return `x` [..., columns] times FP8 `weight` [rows, columns], scaled, plus `bias`."""
    flat, token_scale = quantize_tokens(x.reshape(-1, x.shape[-1]))
    if matmul is Matmul.TENSOR:
        one = torch.ones((), dtype=torch.float32, device=x.device)
        product = scaled_mm(flat, weight.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
        out = product * token_scale * scale
        out = (out if bias is None else out + bias).to(x.dtype)
    else:
        out = scaled_mm(
            flat,
            weight.t(),
            scale_a=token_scale,
            scale_b=scale[None],
            bias=None if bias is None else bias.to(torch.bfloat16),
            out_dtype=torch.bfloat16,
            use_fast_accum=matmul is Matmul.ROW_QUICK,
        ).to(x.dtype)
    return out.reshape(*x.shape[:-1], -1)


def probe_fp8_matmul(
    shapes: Iterable[tuple[int, int]],
    device: torch.device,
    *,
    tokens: Iterable[int] = (1, 12, 110, 122, 4032),
    candidates: Iterable[Matmul] = (Matmul.ROW, Matmul.ROW_QUICK, Matmul.TENSOR),
) -> Matmul:
    """Return the first candidate that works for every (rows, columns) and number of tokens.

    Row-wise scaling is refused by some cards, library versions and shapes, and some answer
    wrongly instead, so each product is compared with its float32 value. Logs one sentence when
    FP8 products are unavailable; `WEIGHT_ONLY` always works.
    """
    refusals: list[str] = []
    shapes, tokens = list(shapes), list(tokens)
    for candidate in candidates:
        refusal = _refusal(candidate, shapes, tokens, device)
        if refusal is None:
            if refusals:
                log.info("FP8 products use %s scaling: %s.", candidate, "; ".join(refusals))
            return candidate
        refusals.append(refusal)
    log.warning("FP8 products do not work here, weights are widened: %s.", "; ".join(refusals))
    return Matmul.WEIGHT_ONLY


def _refusal(
    candidate: Matmul, shapes: list[tuple[int, int]], tokens: list[int], device: torch.device
) -> str | None:
    generator = torch.Generator(device).manual_seed(0)
    for rows, columns in shapes:
        weight, scale = quantize_rows(
            torch.randn(rows, columns, device=device, generator=generator, dtype=torch.bfloat16)
        )
        bias = torch.ones(rows, device=device, dtype=torch.bfloat16)
        for count in tokens:
            x = torch.randn(count, columns, device=device, generator=generator).bfloat16()
            where = f"{candidate}, {count} tokens, {columns} to {rows}"
            try:
                out = fp8_linear(x, weight, scale, bias, candidate).float()
            except (RuntimeError, ValueError) as error:
                return f"{where}: {str(error).splitlines()[0][:120]}"
            exact = x.float() @ (weight.float() * scale[:, None]).t() + 1.0
            if not bool((out - exact).norm() <= 0.08 * exact.norm()):  # NaN fails too
                return f"{where}: wrong values"
    return None
