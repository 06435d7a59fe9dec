"""Triton kernels of a product with one token, whose time is that of reading the weights once.

Imported where Triton is; `vector` launches them. Arguments have no annotations, as in
`int8_kernels`.
"""

import triton
import triton.language as tl

from bot.engine.stream.int8_kernels import rotation


@triton.jit
def rotate_kernel(x, out, groups, GROUP: tl.constexpr, BLOCK: tl.constexpr):
    """Multiply groups of 64 by the rotation."""
    group = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inner = tl.arange(0, GROUP)
    at = group[:, None] * GROUP + inner[None, :]
    there = group[:, None] < groups
    values = tl.load(x + at, mask=there, other=0)
    turned = tl.dot(values, rotation(inner).to(values.dtype), input_precision="ieee")
    tl.store(out + at, turned, mask=there)


@triton.jit
def vector_kernel(
    x,
    weight,
    scales,
    bias,
    out,
    rows,
    width,
    FP8: tl.constexpr,
    BIASED: tl.constexpr,
    ROWS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Multiply rows of bytes, INT8 or FP8 numbers, with a vector; scale, add, and round once."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inner = tl.arange(0, DEPTH)
    start = (row % rows).to(tl.int64)[:, None] * width
    sums = tl.zeros((ROWS, DEPTH), tl.float32)
    for begin in range(0, width, DEPTH):
        at = begin + inner
        there = at < width
        values = tl.load(x + at, mask=there, other=0).to(tl.float32)
        code = tl.load(weight + start + at[None, :], mask=there[None, :], other=0)
        if FP8:
            # See `quantize.dequantize_bytes`: cards before the RTX 40 series have no such type.
            wide = code.to(tl.int16)
            bits = ((wide & 0x80) << 8) | ((wide & 0x7F) << 7)
            numbers = bits.to(tl.float16, bitcast=True).to(tl.float32) * 256.0
        else:
            numbers = code.to(tl.float32)
        sums += numbers * values[None, :]
    total = tl.sum(sums, axis=1) * tl.load(scales + row % rows)
    if BIASED:
        total += tl.load(bias + row % rows).to(tl.float32)
    tl.store(out + row, total.to(out.dtype.element_ty), mask=row < rows)
