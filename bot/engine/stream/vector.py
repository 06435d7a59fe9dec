"""Products of weights in eight bits with one token, as a language model writes its text.

To widen the weights first would read and write five bytes for each of theirs; here each is read
once. Nothing is rounded but the result.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, Final

import torch
from torch import Tensor

from bot.engine.stream.int8 import GROUP
from bot.engine.stream.lacking import lacking_to_compile
from bot.engine.stream.storage import Storage, dequantize

log = logging.getLogger(__name__)

# The quickest of 60 on an H200, or near it, for all shapes of a 7 B encoder's layers.
_ROWS: Final = 2
_DEPTH: Final = 512
_WARPS: Final = 2
_GROUPS: Final = 16  # rows of the smallest tensor-core product
# Of bfloat16's rounding, with sums in another order.
_TOLERANCE: Final = 0.02


def vector_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Return `x` [..., columns], one token, times `weight` [rows, columns], plus `bias` [rows].

    `weight` is FP8, or INT8 and rotated (see `int8`), times `scale` [rows, 1] in float32. Only
    where `vectors_work`.
    """
    import triton  # noqa: PLC0415 - not there on every system

    from bot.engine.stream import vector_kernels  # noqa: PLC0415

    rows, width = weight.shape
    flat = x.reshape(-1).contiguous()
    rotated = weight.dtype is torch.int8
    if rotated:
        groups = width // GROUP
        turned = torch.empty(width, dtype=torch.float32, device=x.device)
        kernel: Any = vector_kernels.rotate_kernel
        kernel[triton.cdiv(groups, _GROUPS),](flat, turned, groups, GROUP=GROUP, BLOCK=_GROUPS)
        flat = turned
    out = torch.empty(*x.shape[:-1], rows, dtype=x.dtype, device=x.device)
    kernel = vector_kernels.vector_kernel
    kernel[triton.cdiv(rows, _ROWS),](
        flat, weight if rotated else weight.view(torch.uint8), scale,
        scale if bias is None else bias, out, rows, width,
        FP8=not rotated, BIASED=bias is not None, ROWS=_ROWS, DEPTH=_DEPTH,
        num_warps=_WARPS,
    )  # fmt: skip
    return out


@functools.cache
def vectors_work(device: torch.device) -> bool:
    """Whether the kernels run on `device` and multiply as widened weights do."""
    if device.type != "cuda" or lacking_to_compile(device) is not None:
        return False
    try:
        refusal = _refusal(device, Storage.INT8) or _refusal(device, Storage.FP8)
    except Exception as error:  # noqa: BLE001 - compilers and drivers fail in countless ways
        refusal = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    if refusal is not None:
        log.warning("Texts are written without kernels of their own, more slowly: %s.", refusal)
    return refusal is None


def _refusal(device: torch.device, storage: Storage) -> str | None:
    generator = torch.Generator(device).manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device).bfloat16()

    weight, scale = storage.quantize_rows(drawn(40, 12 * GROUP), 1.0)
    x, bias = drawn(1, 1, 12 * GROUP), drawn(40)
    wide = torch.empty_like(weight, dtype=torch.bfloat16)
    dequantize(weight, scale[:, None], wide)
    exact = x.float() @ wide.float().t() + bias.float()
    got = vector_linear(x, weight, scale[:, None], bias).float()
    near = bool((got - exact).norm() <= _TOLERANCE * exact.norm())  # NaN fails too
    return None if near else f"{storage}: wrong values"
