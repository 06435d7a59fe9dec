"""INT8: rotation, rounding, widening, products; the kernels themselves run in Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.backends.common import aot_autograd

from bot.engine.stream import int8, quantize
from bot.engine.stream.int8_probe import probe_int8_matmul
from bot.engine.stream.quantize import Matmul
from tests.stream.kit import CPU, error


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_rotation_is_its_own_inverse_and_exact_in_every_type():
    matrix = int8.rotation(CPU, torch.float32)
    assert torch.equal(matrix @ matrix, torch.eye(64))
    assert torch.equal(matrix, matrix.t())
    assert torch.equal(int8.rotation(CPU, torch.bfloat16).float(), matrix)
    # What a group's values have in common stays spread out, and so does a single outlier.
    constant, single = torch.ones(64), torch.eye(64)[5]
    assert float((constant @ matrix).abs().max()) == 1.0
    assert float((single @ matrix).abs().max()) == 0.125


@given(st.integers(0, 2**31), st.floats(-6, 6), st.sampled_from([64, 192, 256]))
@settings(max_examples=30, deadline=None)
def test_rounding_loses_at_most_half_a_step(seed, exponent, columns):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randn(8, 1, generator=generator).exp() * 10.0**exponent
    weight = torch.randn(8, columns, generator=generator) * sizes
    quantized, scale = int8.quantize_rows(weight)
    missed = (quantized * scale[:, None] - int8.rotate(weight)).abs()
    assert bool((missed <= scale[:, None] * 0.501).all())
    out = torch.empty_like(weight)
    int8.dequantize(quantized, scale[:, None], out)
    assert error(out, weight) < 0.02


def test_zeros_and_extremes_stay_finite():
    weight = torch.zeros(3, 64)
    weight[1, 0], weight[2] = 1e37, 1e-30
    quantized, scale = int8.quantize_rows(weight)
    out = torch.empty_like(weight)
    int8.dequantize(quantized, scale[:, None], out)
    assert bool(out.isfinite().all())
    assert out[1, 0] == pytest.approx(1e37, rel=0.01)
    assert float(out[0].abs().max()) == 0.0


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_hidden(number):
    x = drawn(3, 128).bfloat16()
    x[1, 7] = number
    weight, scale = int8.quantize_rows(drawn(48, 128))
    out = int8.int8_linear(x, weight, scale, torch.zeros(48))
    assert out.isfinite().all(1).tolist() == [True, False, True]


def test_widening_in_parts_is_widening_at_once(monkeypatch):
    quantized, scale = int8.quantize_rows(drawn(50, 128))
    whole, parts = torch.empty(2, 50, 128, dtype=torch.bfloat16)
    int8.dequantize(quantized, scale[:, None], whole)
    monkeypatch.setattr(int8, "_NUMBERS", 7 * 128)
    int8.dequantize(quantized, scale[:, None], parts)
    assert torch.equal(whole, parts)


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_near_the_exact_ones(silu, dtype):
    weight, bias = drawn(48, 128, seed=1), drawn(48, seed=2).to(dtype)
    x = drawn(2, 5, 128).to(dtype)
    quantized, scale = int8.quantize_rows(weight)
    out = int8.int8_linear(x, quantized, scale, bias, silu=silu)
    wide = torch.nn.functional.silu(x) if silu else x
    exact = torch.nn.functional.linear(wide.float(), weight, bias.float())
    assert out.dtype is dtype
    assert error(out, exact) < 0.02


def test_outliers_cost_far_less_than_in_fp8_products():
    weight, x = drawn(256, 512, seed=1), drawn(64, 512)
    x[:, [3, 77, 300]] *= 60
    bias = torch.zeros(256)
    exact = x @ weight.t()
    ours = int8.int8_linear(x, *int8.quantize_rows(weight), bias)
    fp8 = quantize.fp8_linear(x, *quantize.quantize_rows(weight), bias, Matmul.ROW)
    assert error(ours, exact) < 0.5 * error(fp8, exact)


def test_the_plain_product_is_exact_in_int32():
    generator = torch.Generator().manual_seed(3)
    a, b = (torch.randint(-127, 128, (n, 12288), generator=generator) for n in (5, 24))
    a[0] = b[0] = 127  # the largest sum that there is
    found = int8.whole_product(a.to(torch.int8), b.to(torch.int8))
    assert torch.equal(found.long(), a @ b.t())


def test_the_probe_believes_values_and_not_promises(monkeypatch, caplog):
    shapes = [(48, 64)]
    assert probe_int8_matmul(shapes, CPU) is Matmul.INT8
    real = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: real(a, b) * 2)
    assert probe_int8_matmul(shapes, CPU) is Matmul.WEIGHT_ONLY
    assert "INT8 products do not work here, weights are widened" in caplog.text


def test_compilers_take_the_operations_as_they_are():
    x, bias = drawn(5, 128), drawn(48)
    quantized, scale = int8.quantize_rows(drawn(48, 128, seed=1))
    torch.library.opcheck(int8.quantize_tokens, (x, True))
    tokens, token_scale = int8.quantize_tokens(x, silu=False)
    given = (tokens, token_scale, quantized, scale, bias, torch.float32)
    torch.library.opcheck(int8.scaled_product, (*given, False))


class Taken(Exception):
    """A compiler was given a whole graph."""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_compilers_launch_the_kernels_themselves_for_any_number_of_tokens(monkeypatch):
    monkeypatch.setattr(int8, "kernels_work", lambda _: True)  # traced here, run nowhere
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        raise Taken

    quantized, scale = int8.quantize_rows(drawn(48, 128, seed=1))
    bias = drawn(48)
    compiled = torch.compile(
        lambda x: int8.int8_linear(x, quantized, scale, bias),
        fullgraph=True,
        backend=aot_autograd(fw_compiler=keep, inference_compiler=keep),
    )
    x = drawn(2, 70, 128)
    torch._dynamo.mark_dynamic(x, 1)  # where a number of tokens is asked for, this is refused
    with torch.no_grad(), pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="Taken"):
        compiled(x)
    called = [str(node.target) for node in graphs[0].graph.nodes]
    assert called.count("triton_kernel_wrapper_functional") == 2, called


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_the_kernels_give_the_plain_codes_numbers():
    done = subprocess.run(
        [sys.executable, "-m", "tests.stream.interpreted"],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["widen", "tokens", "product", "finite", "vector"]
