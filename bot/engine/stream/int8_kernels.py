"""Triton kernels of INT8: widening, rounding of tokens, products. Imported where Triton is.

`int8_launch` calls them. Arguments have no annotations: Triton reads this source, and takes
pointers for tensors.
"""

import triton
import triton.language as tl

# Inductor copies these lines into the code that it writes, where no name of `typing` is known.
_TINY = tl.constexpr(1e-12)
_INT8_MAX = tl.constexpr(127.0)
# Adding it leaves no place for a fraction: to the nearest, halves to even, as torch rounds.
_WHOLE = tl.constexpr(1.5 * 2**23)


@triton.jit
def rotation(inner):
    """Return `int8.rotation` [64, 64] by the numbers `inner` 0 to 63 of its rows and columns.

    The matrix of 4 is negative where row and column add up to 3, so where their bits all differ; of
    its third power an entry is negative where an odd number of the three pairs of bits do.
    """
    differ = inner[:, None] ^ inner[None, :]
    both = differ & (differ >> 1)
    odd = (both ^ (both >> 2) ^ (both >> 4)) & 1
    return tl.where(odd == 1, -0.125, 0.125)


@triton.jit
def widen_kernel(numbers, scales, out, groups, in_row, GROUP: tl.constexpr, BLOCK: tl.constexpr):
    """Multiply groups of 64 by the rotation and by the scale of the row that they are of."""
    group = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inner = tl.arange(0, GROUP)
    at = group[:, None] * GROUP + inner[None, :]
    there = group[:, None] < groups
    values = tl.load(numbers + at, mask=there, other=0).to(out.dtype.element_ty)
    turned = tl.dot(values, rotation(inner).to(values.dtype), input_precision="ieee")
    scale = tl.load(scales + group // in_row, mask=group < groups, other=0)
    tl.store(out + at, (turned * scale[:, None]).to(out.dtype.element_ty), mask=there)


@triton.jit
def tokens_kernel(
    x, numbers, scales, width, GROUP: tl.constexpr, GROUPS: tl.constexpr, SILU: tl.constexpr
):
    """Rotate one token, whole, and round it by its own peak."""
    token = tl.program_id(0)
    inner = tl.arange(0, GROUP)
    within = tl.arange(0, GROUPS)[:, None] * GROUP + inner[None, :]
    there = within < width
    at = token.to(tl.int64) * width + within
    values = tl.load(x + at, mask=there, other=0)
    if SILU:
        wide = values.to(tl.float32)
        values = (wide * tl.sigmoid(wide)).to(x.dtype.element_ty)
    turned = tl.dot(values, rotation(inner).to(values.dtype), input_precision="ieee")
    # The bits of numbers without a sign order as they do, and NaN above all: it must not get lost.
    bits = tl.abs(turned).to(tl.int32, bitcast=True)
    peak = tl.cast(tl.max(tl.max(bits, axis=1), axis=0), tl.float32, bitcast=True)
    scale = tl.where(peak < _TINY, _TINY, peak) / _INT8_MAX
    rounded = (turned / scale + _WHOLE) - _WHOLE
    tl.store(numbers + at, rounded.to(tl.int8), mask=there)
    tl.store(scales + token, scale)


@triton.jit
def product_kernel(
    tokens,
    weight,
    token_scales,
    scales,
    bias,
    out,
    count,
    rows,
    width,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    BAND: tl.constexpr,
):
    """Multiply in int32; apply scales and bias to the sums, and round once."""
    program = tl.program_id(0)
    across = tl.cdiv(rows, COLUMNS)
    first = program // (BAND * across) * BAND
    height = min(tl.cdiv(count, ROWS) - first, BAND)
    left = program % (BAND * across)
    token = (first + left % height) * ROWS + tl.arange(0, ROWS)
    row = left // height * COLUMNS + tl.arange(0, COLUMNS)
    inner = tl.arange(0, DEPTH)
    # What lies past the end is read again from the beginning, and not written.
    left_at = tokens + (token % count)[:, None] * width + inner[None, :]
    right_at = weight + (row % rows)[None, :] * width + inner[:, None]
    sums = tl.zeros((ROWS, COLUMNS), tl.int32)
    for _ in range(0, width, DEPTH):
        sums = tl.dot(tl.load(left_at), tl.load(right_at), sums, out_dtype=tl.int32)
        left_at += DEPTH
        right_at += DEPTH
    by_token = tl.load(token_scales + token % count)
    by_row = tl.load(scales + row % rows)
    added = tl.load(bias + row % rows).to(tl.float32)
    value = sums.to(tl.float32) * by_token[:, None] * by_row[None, :] + added[None, :]
    there = (token[:, None] < count) & (row[None, :] < rows)
    tl.store(out + token[:, None] * rows + row[None, :], value.to(out.dtype.element_ty), mask=there)
