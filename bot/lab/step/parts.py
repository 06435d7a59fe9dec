"""Pieces of the step benchmark: the machine, its ceilings, DiffSynth's own step."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from bot.engine.stream import attention
from bot.engine.stream.layout import Geometry
from bot.engine.stream.pinned import HostBuffer, PinnedMemory
from bot.engine.stream.quantize import (
    Matmul,
    fp8_linear,
    quantize_rows,
    quantize_tokens,
    scaled_mm,
)
from bot.lab.step.subject import Subject


def machine(cuda: bool) -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffsynth": metadata.version("diffsynth"),
        "machine": platform.machine(),
    }


def error(out: Tensor, exact: Tensor) -> float:
    """Return the relative L2 error."""
    return ((out - exact).norm() / exact.norm()).item()


def seconds(device: torch.device, work: Callable[[], Any], repeats: int = 20) -> float:
    """Return what `work` takes once it is warm: the median of three series of `repeats`.

    On a GPU a series is recorded and replayed, so that no launch from Python is timed.
    """

    def synchronised() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def repeated() -> None:
        for _ in range(repeats):
            work()

    work()
    if device.type == "cuda":
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            repeated()
        graph.replay()
        repeated = graph.replay
    series: list[float] = []
    for _ in range(3):
        started = synchronised()
        repeated()
        series.append((synchronised() - started) / repeats)
    return sorted(series)[1]


def _seconds(work: Callable[[], Any], repeats: int = 5) -> float:
    work()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats


def _copy_seconds(size: int, device: torch.device) -> float:
    host = HostBuffer(size, PinnedMemory())
    target = torch.empty(size, dtype=torch.uint8, device=device)
    return _seconds(lambda: target.copy_(host.tensor, non_blocking=True))


def ceilings(device: torch.device, geometry: Geometry) -> dict[str, Any]:
    """Measure the bus, matrix products in every way, and attention, at the model's shapes."""
    figures: dict[str, Any] = {}
    size = 2**29
    figures["host_to_device_gb_s"] = size / _copy_seconds(size, device) / 1e9
    dim = geometry.dim
    for rows, columns in ((3 * dim, dim), (4 * dim, dim), (dim, 4 * dim)):
        for tokens in (122, 4032, 8064):
            x = torch.randn(tokens, columns, device=device, dtype=torch.bfloat16)
            weight = torch.randn(rows, columns, device=device, dtype=torch.bfloat16)
            bias = torch.randn(rows, device=device, dtype=torch.bfloat16)
            operations = 2.0 * tokens * rows * columns / 1e12
            name = f"{tokens}x{columns}->{rows}"
            plain = _seconds(lambda: torch.nn.functional.linear(x, weight, bias))  # noqa: B023
            rates: dict[str, float | str] = {"bf16": operations / plain}
            quantized, scale = quantize_rows(weight)
            flat, token_scale = quantize_tokens(x)
            for matmul in (Matmul.ROW, Matmul.ROW_QUICK, Matmul.TENSOR):
                try:
                    fp8_linear(x, quantized, scale, bias, matmul)
                    rates[matmul] = operations / _seconds(
                        lambda m=matmul: _product(flat, quantized, token_scale, scale, m)  # noqa: B023
                    )
                except RuntimeError as refusal:
                    rates[matmul] = str(refusal)[:80]
            figures[f"TFLOP/s {name}"] = rates
    tokens = 4032 + 110
    figures["attention_s"] = attention.choose_kernel(
        tokens, geometry.heads, geometry.head_dim, device
    )
    return figures


def _product(
    flat: Tensor, weight: Tensor, token_scale: Tensor, scale: Tensor, matmul: Matmul
) -> Tensor:
    one = torch.ones((), device=flat.device)
    tensorwise = matmul is Matmul.TENSOR
    return scaled_mm(
        flat,
        weight.t(),
        scale_a=one if tensorwise else token_scale,
        scale_b=one if tensorwise else scale[None],
        out_dtype=torch.bfloat16,
        use_fast_accum=matmul is Matmul.ROW_QUICK,
    )


def stock_step(
    subject: Subject,
    dit: Any,
    compiled: bool,
    prompts: Sequence[Tensor],
    latents: Tensor,
    timesteps: Tensor,
    references: Sequence[Tensor] = (),
) -> Callable[[], Tensor]:
    """Return DiffSynth's own step, all branches, with or without compiled blocks."""
    for block in dit.transformer_blocks:
        # There is no public way back from `compile`, and compiling anew costs a minute.
        if compiled and not hasattr(block, "kept"):
            block.compile(dynamic=True)
            block.kept = block._compiled_call_impl  # noqa: SLF001
        block._compiled_call_impl = block.kept if compiled else None  # noqa: SLF001

    predict = stock_branch(subject, dit, latents, timesteps, references)

    @torch.no_grad()
    def step() -> Tensor:
        return guided(subject, [predict(prompt) for prompt in prompts])

    return step


def guided(subject: Subject, branches: Sequence[Tensor]) -> Tensor:
    """Return the prediction of one branch, or of both with the subject's guidance."""
    if len(branches) == 1:
        return branches[0]
    positive, negative = branches
    return negative + subject.guidance * (positive - negative)


def stock_branch(
    subject: Subject,
    dit: Any,
    latents: Tensor,
    timesteps: Tensor,
    references: Sequence[Tensor] = (),
) -> Callable[[Tensor], Tensor]:
    """Return DiffSynth's own prediction for one prompt's embedding."""
    timestep = timesteps[0].unsqueeze(0).to(latents.device, latents.dtype)
    placed = [each.to(latents.device, latents.dtype) for each in references]
    return lambda prompt: subject.branch(
        dit, latents, timestep, prompt.to(latents.device, latents.dtype), placed
    )


def profile(step: Callable[[], Any], rows: int = 14) -> list[tuple[str, float, int]]:
    """Return the kernels that take most of a step: name, milliseconds, calls."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    events: Any = profiler.key_averages()
    found = sorted(
        ((e.key[:70], e.self_device_time_total / 1e3, e.count) for e in events),
        key=lambda row: -row[1],
    )
    return found[:rows]
