"""The Triton kernels in Triton's interpreter against the plain code; needs TRITON_INTERPRET=1.

It neither multiplies nor rounds bfloat16 numbers as cards do: all is in float32 here.
"""

from __future__ import annotations

import sys

import torch
from torch.nn import functional

from bot.engine.stream import int8, int8_launch
from bot.engine.stream.int8_launch import Tiles
from bot.engine.stream.storage import Storage, dequantize
from bot.engine.stream.vector import vector_linear


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def widen() -> None:
    quantized, scale = int8.quantize_rows(drawn(37, 192))
    plain, ours = (torch.full((37, 192), 9.0) for _ in range(2))
    int8.dequantize(quantized, scale[:, None], plain)
    int8_launch.widen(quantized, scale[:, None], ours)
    assert torch.equal(plain, ours)


def tokens() -> None:
    for width in (192, 1088):
        for silu in (False, True):
            x = drawn(7, width)
            x[3] = 0
            numbers, scale = int8.quantize_tokens(x, silu)
            ours, ours_scale = int8_launch.quantize_tokens(x, silu=silu)
            assert torch.allclose(ours_scale, scale, rtol=1e-5)
            # The sums of a rotation are added up in another order: what lies halfway may go either way.
            missed = (numbers.int() - ours.int()).abs()
            assert int(missed.max()) <= 1
            assert float(missed.float().mean()) < 0.001


def product() -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = (
        torch.randint(-127, 128, (n, 256), generator=generator).to(torch.int8) for n in (70, 144)
    )
    ones = [torch.ones(n) for n in (70, 144)]
    bias = torch.zeros(144)
    for tiles in (Tiles(32, 64, 64, 4, 2), Tiles(64, 32, 128, 4, 3)):
        out = torch.full((70, 144), -1.0)
        # With scales of one and in float32 every sum here is exact: the int32 numbers themselves.
        int8_launch.launch(tiles, a, ones[0], b, ones[1], bias, out)
        assert torch.equal(out.int(), int8.whole_product(a, b))
        scales = [drawn(n, seed=n).abs() for n in (70, 144)]
        added = drawn(144, seed=5)
        plain = int8.scaled_product(a, scales[0], b, scales[1], added, torch.float32, few=False)
        out = torch.empty(70, 144)
        int8_launch.launch(tiles, a, scales[0], b, scales[1], added, out)
        assert torch.allclose(out, plain, rtol=1e-6, atol=1e-3)


def finite() -> None:
    for number in (float("nan"), float("inf")):
        x = drawn(3, 128)
        x[1, 7] = number
        _, scale = int8_launch.quantize_tokens(x, silu=False)
        assert scale.isfinite().tolist() == [True, False, True]


def vector() -> None:
    for storage in (Storage.INT8, Storage.FP8):
        # Neither the rows nor the width fill the last program.
        weight, scale = storage.quantize_rows(drawn(37, 1088), 1.0)
        wide = torch.empty(37, 1088)
        dequantize(weight, scale[:, None], wide)
        x = drawn(1, 1, 1088, seed=7)
        for bias in (None, drawn(37, seed=8)):
            ours = vector_linear(x, weight, scale[:, None], bias)
            assert torch.allclose(ours, functional.linear(x, wide, bias), rtol=1e-4, atol=1e-4)


for check in (widen, tokens, product, finite, vector):
    check()
    sys.stdout.write(f"{check.__name__}\n")
