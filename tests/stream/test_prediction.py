"""A prediction: ours against DiffSynth's, streamed against resident."""

from __future__ import annotations

import threading

import pytest
import torch

from bot.engine.stream.block import run_block
from bot.engine.stream.budget import Work
from bot.engine.stream.denoise import noise
from bot.engine.stream.layout import Precision
from bot.engine.stream.quantize import Matmul
from bot.errors import EngineError, GenerationCancelled
from tests.stream.kit import (
    EACH_PRECISION,
    HEIGHT,
    PROMPTS,
    TIMESTEPS,
    WIDTH,
    budget_for,
    error,
    predicted,
    prepared,
    prompt,
    stock,
    stock_branch,
    stock_prediction,
    streamed,
)

USUAL = Work(WIDTH, HEIGHT, 1, (11, 5))


def test_plain_float32_is_diffsynths_prediction():
    assert error(predicted(streamed()), stock_prediction(stock())) < 1e-5


def test_plain_bfloat16_is_as_exact_as_diffsynths():
    exact = stock_prediction(stock(), guidance=1.0)
    ours = predicted(streamed(dtype=torch.bfloat16), guidance=1.0)
    theirs = stock_prediction(stock(torch.bfloat16), guidance=1.0)
    assert error(ours, exact) < 1.3 * error(theirs, exact)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "bound"),
    [
        (Precision.INT8, 0.015),
        (Precision.INT8_FAST, 0.03),
        (Precision.FP8, 0.05),
        (Precision.FP8_FAST, 0.09),
    ],
)
def test_eight_bits_stay_near(precision, bound):
    exact = stock_prediction(stock())
    assert 1e-4 < error(predicted(streamed(precision)), exact) < bound


def test_fp8_modulation_costs_little():
    exact = stock_prediction(stock())
    coarse = error(predicted(streamed(Precision.FP8)), exact)
    fine = error(predicted(streamed(Precision.FP8, modulation_quantized=False)), exact)
    assert fine < coarse < 1.5 * fine


def test_guidance_one_runs_one_branch():
    dit = streamed()
    alone = dit.predict(prepared(dit, PROMPTS[:1]), 1, noise([3], WIDTH, HEIGHT, torch.float32))
    assert error(alone, stock_branch(stock(), PROMPTS[0])) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("precision", EACH_PRECISION)
@pytest.mark.parametrize(
    "dtype", [pytest.param(torch.float32, marks=pytest.mark.slow), torch.bfloat16]
)
def test_streamed_is_bit_identical_to_resident(precision, dtype):
    dit = streamed(precision, dtype, usual=USUAL)
    exact = predicted(dit)
    assert len(dit.resident) == 6
    for count in range(6, -1, -1):
        dit.configure(budget_for(dit, count), precision, compiled=False)
        assert torch.equal(predicted(dit), exact)
        assert len(dit.resident) == count
        # The second pass begins with what the end of the first one copied ahead.
        assert torch.equal(predicted(dit), exact)


def test_streaming_from_the_start_keeps_no_second_copy():
    probe = streamed(Precision.FP8, usual=USUAL)
    budget, exact = budget_for(probe, 2), predicted(streamed(Precision.FP8))
    dit = streamed(Precision.FP8, usual=USUAL, budget=budget)
    assert len(dit.resident) == 2
    weights = 4 * dit.layouts[0].size + 6 * dit.layouts[1].size
    assert dit.weights.host_bytes == weights
    assert torch.equal(predicted(dit), exact)
    assert dit.weights.host_bytes == weights


def test_a_larger_picture_evicts_and_a_smaller_one_brings_back():
    dit = streamed(Precision.FP8, usual=USUAL)
    exact = predicted(dit)
    dit.configure(budget_for(dit, 5), Precision.FP8, compiled=False)
    predicted(dit)
    before = dit.resident
    large = Work(160, 128, 2, (11, 5))
    dit.residency.make_room(large)
    during = dit.resident
    assert len(during) < len(before) == 5
    assert torch.equal(predicted(dit), exact)
    assert dit.resident == before
    host = dit.weights.host_bytes
    dit.residency.make_room(large)
    assert dit.weights.host_bytes == host  # an evicted block's copy is kept for the next time


def test_too_small_a_budget_says_so():
    dit = streamed(Precision.FP8, usual=USUAL)
    dit.configure(1000, Precision.FP8, compiled=False)
    with pytest.raises(EngineError) as caught:
        prepared(dit)
    assert "a smaller picture fits" in str(caught.value.sentence)


def test_memory_that_runs_out_costs_blocks_and_not_the_picture(monkeypatch):
    dit = streamed(Precision.FP8)
    exact = predicted(dit)
    generation = prepared(dit)
    inner, failures = dit.execution.kernels.block, [3]

    def scarce(*arguments):
        if failures[0] and len(dit.resident) > 4:
            failures[0] -= 1
            raise torch.OutOfMemoryError
        return inner(*arguments)

    monkeypatch.setattr(dit.execution.kernels, "block", scarce)
    latents = noise([3], WIDTH, HEIGHT, torch.float32)
    assert torch.equal(dit.predict(generation, 1, latents, 4.0), exact)
    assert len(dit.resident) == 4


def test_the_order_of_sizes_does_not_matter():
    dit = streamed(Precision.FP8_FAST)
    first = predicted(dit)
    dit.prepare([prompt(7, 9)], torch.tensor([500.0]), width=64, height=160)
    assert torch.equal(predicted(dit), first)


def test_branches_apart_equal_branches_together(monkeypatch):
    dit = streamed()
    together = predicted(dit)
    monkeypatch.setattr(Work, "joint", property(lambda _self: False))
    assert error(predicted(dit), together) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("precision", [Precision.FP8, Precision.INT8, Precision.INT8_FAST])
def test_compiled_blocks_predict_the_same(precision):
    dit = streamed(precision, compile=True)
    assert dit.execution.compiled
    ours, plain = predicted(dit), predicted(streamed(precision))
    if precision is Precision.INT8_FAST:
        # Rounding tokens turns a difference in the last bit into one of a step: as near to the
        # truth, and nearer to one another (0.3 to 0.74 of that, by the processor).
        exact = predicted(streamed())
        assert error(ours, exact) == pytest.approx(error(plain, exact), rel=0.15)
        assert error(ours, plain) < error(plain, exact)
    else:
        assert error(ours, plain) < 1e-4
    assert dit.execution.compiled  # it did not fall back


def test_a_compiler_that_fails_is_left_alone(monkeypatch, caplog):
    def broken(*_arguments, **_options):
        raise RuntimeError("no header files")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    dit = streamed(Precision.FP8, compile=True)
    assert dit.execution.compiled
    assert torch.equal(predicted(dit), predicted(streamed(Precision.FP8)))
    assert not dit.execution.compiled
    assert dit.execution.uncompiled == "RuntimeError: no header files"
    assert caplog.text.count("run_block cannot be compiled, going on without") == 1
    assert caplog.text.count("dequantize cannot be compiled, going on without") == 1


def test_blocks_are_compiled_where_widening_cannot_be(monkeypatch, caplog):
    blocks = []

    def compiler(function, **_options):
        def call(*arguments):
            if function is not run_block:
                raise RuntimeError("type fp8e4nv not supported in this architecture")
            blocks.append(threading.current_thread().name)
            return function(*arguments)

        return call

    monkeypatch.setattr(torch, "compile", compiler)
    dit = streamed(Precision.FP8, compile=True)
    assert torch.equal(predicted(dit), predicted(streamed(Precision.FP8)))
    assert dit.execution.compiled
    assert set(blocks) == {"MainThread"}
    assert caplog.text.count("going on without") == 1


def compiler_of(calls):
    """A compiler whose code notes the thread and the shapes it is called with, in `calls`."""

    def compiler(function, **_options):
        def call(*arguments):
            if function is run_block:
                matrices = arguments[4]
                calls.append((threading.current_thread().name, len(arguments[1]), matrices))
            return function(*arguments)

        return call

    return compiler


def test_a_block_is_compiled_before_the_first_step_and_on_the_drawing_thread(monkeypatch):
    calls, told = [], []
    monkeypatch.setattr(torch, "compile", compiler_of(calls))
    dit = streamed(Precision.FP8, compile=True)

    def prepare(prompts):
        calls.clear()
        dit.prepare(
            prompts, TIMESTEPS, width=WIDTH, height=HEIGHT, on_compile=lambda: told.append(1)
        )
        return [(thread, branches) for thread, branches, _ in calls]

    # Once for a structure, not once for a picture; one branch alone is another.
    assert prepare(PROMPTS) == [("MainThread", 2)]
    assert prepare([prompt(20, 3), prompt(7, 4)]) == []
    assert prepare(PROMPTS[:1]) == [("MainThread", 1)]
    assert len(told) == 2
    assert torch.equal(predicted(dit), predicted(streamed(Precision.FP8)))
    assert len(calls) == 1 + dit.geometry.layers


@pytest.mark.slow
@pytest.mark.parametrize("resident", [0, 3, 6])
def test_compiling_takes_the_memory_of_a_step(monkeypatch, resident):
    calls = []
    monkeypatch.setattr(torch, "compile", compiler_of(calls))
    dit = streamed(Precision.FP8, usual=USUAL)
    dit.configure(budget_for(dit, resident), Precision.FP8, compiled=True)
    kept = dit.residency.make_room(USUAL).resident
    scratch = dit.weights._scratch
    prepared(dit)
    assert len(calls) == 1
    assert dit.resident == kept
    # The visited block lies where those of a step do.
    own = calls[0][2].image.qkv.weight
    assert own.untyped_storage().data_ptr() == dit.weights._scratch.untyped_storage().data_ptr()
    assert scratch is None or scratch is dit.weights._scratch
    assert torch.equal(predicted(dit), predicted(streamed(Precision.FP8)))


def test_compiling_that_finds_no_memory_costs_blocks_and_not_the_picture(monkeypatch):
    failures, told = [2], []

    def compiler(function, **_options):
        def call(*arguments):
            if function is run_block and failures[0]:
                failures[0] -= 1
                raise torch.OutOfMemoryError
            return function(*arguments)

        return call

    monkeypatch.setattr(torch, "compile", compiler)
    dit = streamed(Precision.FP8, compile=True)
    dit.prepare(PROMPTS, TIMESTEPS, width=WIDTH, height=HEIGHT, on_compile=lambda: told.append(1))
    assert len(told) == 3
    assert len(dit.resident) == dit.geometry.layers - 2
    assert dit.execution.compiled
    assert torch.equal(predicted(dit), predicted(streamed(Precision.FP8)))
    assert len(dit.resident) == dit.geometry.layers  # they are back with the next picture


def test_a_job_can_be_cancelled_before_it_compiles(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "compile", compiler_of(calls))
    dit = streamed(Precision.FP8, compile=True)

    def cancel():
        raise GenerationCancelled

    with pytest.raises(GenerationCancelled):
        dit.prepare(PROMPTS, TIMESTEPS, width=WIDTH, height=HEIGHT, on_compile=cancel)
    assert calls == []
    assert torch.equal(predicted(dit), predicted(streamed(Precision.FP8)))


def test_a_picture_whose_blocks_cannot_be_compiled_is_planned_for_plain_code(monkeypatch):
    def broken(*_arguments, **_options):
        raise RuntimeError("no header files")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    dit = streamed(Precision.FP8, usual=USUAL)
    dit.configure(budget_for(dit, 3), Precision.FP8, compiled=True)
    compiled = dit.plan(USUAL)
    prepared(dit)
    plain = dit.plan(USUAL)
    assert plain.working > compiled.working
    assert dit.resident == plain.resident


@pytest.mark.slow
def test_compiled_once_for_every_size(capfd):
    torch._dynamo.reset()
    dit = streamed(Precision.FP8, compile=True)
    predicted(dit)
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    timesteps = torch.tensor([500.0])
    for width, height, tokens in ((64, 160, 9), (320, 256, 30)):
        generation = dit.prepare(
            [prompt(tokens, 9), prompt(4, 8)], timesteps, width=width, height=height
        )
        dit.predict(generation, 0, noise([3], width, height, torch.float32), 4.0)
    assert dit.execution.compiled
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled


def test_unusable_fp8_products_fall_back(monkeypatch):
    def refuse(*_arguments, **_options):
        raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")

    monkeypatch.setattr(torch, "_scaled_mm", refuse)
    dit = streamed(Precision.FP8_FAST)
    assert dit.execution.matmul is Matmul.WEIGHT_ONLY
    assert torch.equal(predicted(dit), predicted(streamed(Precision.FP8)))


def test_blocks_give_way_and_come_back():
    dit = streamed(Precision.FP8)
    dit.configure(budget_for(dit, 5), Precision.FP8, compiled=False)
    first = predicted(dit)
    before = len(dit.resident)
    for gone in (1, 2):
        dit.residency.give_way()
        assert len(dit.resident) == before - gone
    assert torch.equal(predicted(dit), first)
    assert len(dit.resident) == before
