from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.engine.stream.block import Kernel, Matrix, Stream, _mlp
from bot.engine.stream.int8 import rotate
from bot.engine.stream.layout import QUICK_GELU, Geometry, block_layout, modulation_layout
from bot.engine.stream.quantize import (
    Matmul,
    dequantize,
    dequantize_bytes,
    fp8_linear,
    probe_fp8_matmul,
    quantize_rows,
    quantize_tokens,
)
from bot.engine.stream.storage import Storage
from bot.engine.stream.storage import dequantize as widen
from bot.lab.step import random_weights
from tests.stream.kit import CPU


@given(st.integers(0, 2**31), st.floats(-6, 6), st.sampled_from([16, 48, 256]))
@settings(max_examples=40, deadline=None)
def test_rounding_loses_at_most_a_sixteenth_of_a_value(seed, exponent, columns):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randn(8, 1, generator=generator).exp() * 10.0**exponent
    weight = torch.randn(8, columns, generator=generator) * sizes
    quantized, scale = quantize_rows(weight)
    back = quantized.float() * scale[:, None]
    # e4m3: 3 bits of fraction, and steps of 2^-9 of the scale for the smallest values.
    assert bool(((back - weight).abs() <= weight.abs() / 16 + scale[:, None] / 1023).all())


def test_zeros_and_extremes_stay_finite():
    weight = torch.zeros(3, 16)
    weight[1, 0], weight[2] = 3e38, 1e-30
    quantized, scale = quantize_rows(weight)
    back = quantized.float() * scale[:, None]
    assert bool(back.isfinite().all())
    assert back[1, 0] == pytest.approx(3e38, rel=0.01)
    assert float(back[0].abs().max()) == 0.0
    assert bool(quantize_tokens(torch.zeros(2, 16))[0].float().isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_ways_to_widen_agree_on_every_number(dtype):
    codes = torch.arange(256, dtype=torch.uint8)
    numbers = codes[(codes & 0x7F) != 0x7F].view(2, 127)  # without the two that are not finite
    scale = torch.tensor([[0.7], [3e-5]])
    one, two = torch.empty(2, 127, dtype=dtype), torch.empty(2, 127, dtype=dtype)
    one.copy_(numbers.view(torch.float8_e4m3fn).float() * scale)
    dequantize_bytes(numbers, scale, two)
    assert torch.equal(one, two)
    if dtype is torch.float32:
        dequantize(numbers.view(torch.float8_e4m3fn), scale, two)
        assert torch.equal(one, two)


@pytest.mark.parametrize("matmul", [Matmul.ROW, Matmul.ROW_QUICK, Matmul.TENSOR])
def test_fp8_products(matmul):
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(48, 64, generator=generator)
    x, bias = torch.randn(2, 5, 64, generator=generator), torch.randn(48, generator=generator)
    quantized, scale = quantize_rows(weight)
    out = fp8_linear(x, quantized, scale, bias, matmul)
    exact = torch.nn.functional.linear(x, weight, bias)
    assert out.shape == exact.shape
    assert float((out - exact).norm() / exact.norm()) < 0.06


def test_the_probe_believes_values_and_not_promises(monkeypatch, caplog):
    shapes = [(48, 64)]
    assert probe_fp8_matmul(shapes, CPU, tokens=(1, 12)) is Matmul.ROW
    real = torch._scaled_mm

    def rowwise_is_wrong(a, b, *, scale_a, scale_b, **options):
        if scale_a.numel() > 1 or scale_b.numel() > 1:
            scale_a = scale_a * 1.5
        return real(a, b, scale_a=scale_a, scale_b=scale_b, **options)

    monkeypatch.setattr(torch, "_scaled_mm", rowwise_is_wrong)
    assert probe_fp8_matmul(shapes, CPU, tokens=(1, 12)) is Matmul.TENSOR
    monkeypatch.setattr(torch, "_scaled_mm", lambda *_, **__: torch.full((12, 48), float("nan")))
    assert probe_fp8_matmul(shapes, CPU, tokens=(12,)) is Matmul.WEIGHT_ONLY
    assert "weights are widened" in caplog.text


@pytest.mark.parametrize("storage", list(Storage))
def test_a_packed_block_holds_every_weight(storage):
    geometry = random_weights.SMALL
    state = random_weights.random_block(geometry, 0, CPU, torch.float32)
    bound = {Storage.FP8: 0.04, Storage.INT8: 0.012, Storage.PLAIN: 1e-6}[storage]
    seen: set[str] = set()
    for layout in (
        block_layout(geometry, torch.float32, storage),
        modulation_layout(geometry, torch.float32, storage),
    ):
        packed = layout.pack(state, CPU)
        assert packed.flat.numel() == layout.size
        sizes = sum(t.nbytes for name, t in packed.small.items() if "norms" not in name)
        assert sizes == layout.small_size
        matrices = layout.matrices(layout.stored(packed.flat))
        for piece in layout.pieces:
            matrix = matrices[piece.name].float()
            if storage is Storage.INT8:
                matrix = rotate(matrix)
            if storage.quantized:
                matrix = matrix * packed.small[f"{piece.name}.scale"][:, None]
            matrix = matrix * (piece.in_gain / piece.out_gain)
            exact = torch.cat([state[f"{source}.weight"] for source in piece.sources])
            assert float((matrix - exact).norm() / exact.norm()) < bound
            bias = packed.small[f"{piece.name}.bias"] / piece.out_gain
            wanted = torch.cat([state[f"{source}.bias"] for source in piece.sources])
            assert torch.allclose(bias, wanted)
            seen |= {f"{source}.{leaf}" for source in piece.sources for leaf in ("weight", "bias")}
        for name, pair in layout.norms:
            assert torch.equal(packed.small[name][0], state[f"{pair[0]}.weight"])
            assert torch.equal(packed.small[name][1], state[f"{pair[1]}.weight"])
            seen |= {f"{part}.weight" for part in pair}
    assert seen == set(state)


def test_pieces_are_aligned_for_fp8_products():
    layout = block_layout(random_weights.FULL, torch.bfloat16, Storage.FP8)
    assert layout.size == 24 * 3072 * 3072
    start = 0
    for piece in layout.pieces:
        assert start % 256 == 0
        start += piece.rows * piece.columns
    gains = {piece.name: (piece.out_gain, piece.in_gain) for piece in layout.pieces}
    assert gains["img_up"] == (QUICK_GELU, 1.0)
    assert gains["img_down"] == (1.0, QUICK_GELU)
    with pytest.raises(ValueError, match="divisible by 16"):
        block_layout(Geometry(1, 40, 1), torch.bfloat16, Storage.FP8)


@pytest.mark.parametrize("storage", [Storage.FP8, Storage.INT8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_activation_in_the_scales_is_the_models_to_rounding(storage, dtype) -> None:
    """The same stored weights, with 1.702 in their scales and biases and without."""
    geometry = random_weights.SMALL
    state = random_weights.random_block(geometry, 0, CPU, dtype)
    folded = block_layout(geometry, dtype, storage)
    plain = replace(
        folded, pieces=tuple(each._replace(out_gain=1.0, in_gain=1.0) for each in folded.pieces)
    )
    x = torch.randn(200, geometry.dim, generator=torch.Generator().manual_seed(2)).to(dtype)

    def through(layout, kind) -> torch.Tensor:
        packed = layout.pack(state, CPU)
        wide = torch.empty(layout.elements, dtype=kind)
        rows = (-1, layout.width)
        stored = layout.stored(packed.flat)
        widen(stored.view(rows), packed.small["scales"], wide.view(rows))
        matrices = layout.matrices(wide)
        up, down = (
            Matrix(matrices[name], packed.small[f"{name}.bias"].to(kind))
            for name in ("img_up", "img_down")
        )
        none: Any = None
        kernel = Kernel(geometry, Matmul.WEIGHT_ONLY, quick_gelu_folded=layout is folded)
        return _mlp(kernel, x.to(kind), Stream(none, none, none, up, down))

    stored = [layout.pack(state, CPU).flat for layout in (folded, plain)]
    assert torch.equal(*stored)
    exact = through(plain, torch.float32)
    if dtype is torch.float32:
        torch.testing.assert_close(through(folded, dtype), exact, atol=2e-6, rtol=2e-5)
    else:
        errors = [
            float((through(layout, dtype).float() - exact).norm() / exact.norm())
            for layout in (folded, plain)
        ]
        assert errors[0] < 1.15 * errors[1]
        assert errors[1] < 0.01
