"""Launching of the INT8 kernels, and the tiles of products. Imported where Triton is.

`wrap_triton` lets inductor take a launch into the code that it writes for a block: called from
Python, a block's sixteen launches take longer than its work on a quick card.

Which tiles are the fastest is tried for each shape: they change the time and no bit, since sums of
whole numbers are exact in any order.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

import torch
import triton
from torch import Tensor
from torch.library import wrap_triton

from bot.engine.stream import int8_kernels
from bot.engine.stream.card_time import milliseconds
from bot.engine.stream.int8 import GROUP


class Tiles(NamedTuple):
    """How a product is cut up: a program's `rows` (tokens) x `columns`, and `depth` at a time."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int

    @property
    def shared_bytes(self) -> int:
        """Return the shared memory that the stages of both factors take."""
        return self.stages * (self.rows + self.columns) * self.depth


CANDIDATES: Final = (
    Tiles(128, 128, 64, 4, 4),
    Tiles(128, 256, 128, 8, 3),
    Tiles(256, 128, 128, 8, 3),
    Tiles(128, 128, 128, 8, 3),
    Tiles(128, 256, 64, 8, 4),
    Tiles(256, 128, 64, 8, 4),
    Tiles(128, 128, 128, 4, 3),
    Tiles(64, 128, 128, 4, 3),
    Tiles(64, 64, 128, 4, 4),
)
"""The first has room on every card and is what is used before others were tried."""
FEW_TOKENS: Final = 512
"""Up to here a product is a small one, as the text's, and has tiles of its own."""
_FEWEST: Final = 16  # rows of the smallest tensor-core product
_WIDEN_GROUPS: Final = 128
_BAND: Final = 8  # tiles of rows that are worked off together, so that they share columns in L2
_LEAST_SHARED: Final = 99 * 1024  # of cards from the RTX 30 series on
_WIDE_GROUPS: Final = 64  # a token of more groups gets eight warps

chosen: dict[tuple[torch.device, int, int, bool], Tiles] = {}
"""By device, rows, columns, and whether there are few tokens."""


def widen(numbers: Tensor, scale: Tensor, out: Tensor) -> None:
    """See `int8.dequantize`."""
    groups = numbers.numel() // GROUP
    kernel: Any = int8_kernels.widen_kernel
    kernel[_parts(groups, _WIDEN_GROUPS),](
        numbers, scale, out, groups, numbers.shape[1] // GROUP, GROUP=GROUP, BLOCK=_WIDEN_GROUPS
    )


def quantize_tokens(x: Tensor, *, silu: bool) -> tuple[Tensor, Tensor]:
    """See `int8.quantize_tokens`."""
    x = x.contiguous()
    count, width = x.shape
    numbers = torch.empty_like(x, dtype=torch.int8)
    scales = torch.empty(count, dtype=torch.float32, device=x.device)
    groups = max(_FEWEST, triton.next_power_of_2(width // GROUP))
    kernel: Any = wrap_triton(int8_kernels.tokens_kernel)
    kernel[count,](
        x, numbers, scales, width,
        GROUP=GROUP, GROUPS=groups, SILU=silu, num_warps=8 if groups > _WIDE_GROUPS else 4,
    )  # fmt: skip
    return numbers, scales


def product(
    tokens: Tensor,
    token_scale: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    dtype: torch.dtype,
    *,
    few: bool,
) -> Tensor:
    """See `int8.scaled_product`."""
    (count, _), (rows, width) = tokens.shape, weight.shape
    tiles = chosen.get((tokens.device, rows, width, few), CANDIDATES[0])
    out = torch.empty(count, rows, dtype=dtype, device=tokens.device)
    launch(tiles, tokens, token_scale, weight, scale, bias, out)
    return out


def launch(
    tiles: Tiles,
    tokens: Tensor,
    token_scale: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    out: Tensor,
) -> None:
    """Write the product into `out` [tokens, rows], cut into `tiles`."""
    (count, width), rows = tokens.shape, len(weight)
    programs = _parts(count, tiles.rows) * _parts(rows, tiles.columns)
    kernel: Any = wrap_triton(int8_kernels.product_kernel)
    kernel[programs,](
        tokens, weight, token_scale, scale, bias, out, count, rows, width,
        ROWS=tiles.rows, COLUMNS=tiles.columns, DEPTH=tiles.depth, BAND=_BAND,
        num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip


def _parts(whole: int, part: int) -> int:
    # Also of a number that a compiler leaves open.
    return -(-whole // part)


def fitting(shared_bytes: int, width: int) -> list[Tiles]:
    """Return the candidates for products of `width` where a program has that much shared memory."""
    return [
        tiles
        for tiles in CANDIDATES
        if tiles.shared_bytes <= shared_bytes and width % tiles.depth == 0
    ]


def choose(rows: int, width: int, count: int, device: torch.device) -> Tiles:
    """Try the candidates on `count` tokens times [rows, width]; keep and return the fastest."""
    properties: Any = torch.cuda.get_device_properties(device)
    tokens = torch.ones(count, width, dtype=torch.int8, device=device)
    weight = torch.ones(rows, width, dtype=torch.int8, device=device)
    token_scale, scale = (torch.ones(n, device=device) for n in (count, rows))
    bias = torch.zeros(rows, dtype=torch.bfloat16, device=device)
    out = torch.empty(count, rows, dtype=torch.bfloat16, device=device)
    found: dict[Tiles, float] = {}
    shared = getattr(properties, "shared_memory_per_block_optin", _LEAST_SHARED)
    for tiles in fitting(shared, width):
        given = (tiles, tokens, token_scale, weight, scale, bias, out)
        try:
            found[tiles] = milliseconds(partial(launch, *given), device)
        except triton.runtime.errors.OutOfResources:  # the compiler needed more than it seemed
            continue
    best = min(found, key=found.__getitem__)
    chosen[device, rows, width, count <= FEW_TOKENS] = best
    return best
