"""Single figures of the step benchmark: other sizes, whole pictures, a cancel, where time goes."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import torch

from bot.engine.stream.budget import GIB
from bot.engine.stream.denoise import denoise
from bot.engine.stream.layout import Precision, modulation_layout
from bot.engine.stream.lora import parse
from bot.engine.stream.quantize import Matmul
from bot.engine.stream.storage import Storage
from bot.lab.step import parts, random_weights
from bot.lab.step.context import DTYPE, Context, Variant

_LORA_RANK: Final = 32


def sizes(context: Context) -> None:
    """Time a batch, and the largest and a small picture, under a hard limit of the budget."""
    context.stock = None
    gc.collect()  # compiled code and modules point at one another
    large = context.options.large
    for variant in context.ours():
        for size, pictures in (("", 1), ("", 4), (large, 1), (large, 4), ("512x512", 1)):
            name = f"{variant.name}, {pictures} x {size or context.options.size}"
            context.guarded(
                name, lambda v=variant, s=size, p=pictures, n=name: _sized(context, v, s, p, n)
            )


def _sized(context: Context, variant: Variant, size: str, pictures: int, name: str) -> None:
    device = context.settled(variant).device
    context.limit(variant.budget)
    try:
        step = context.stepper(variant, size, pictures)
        first, _ = context.timed(step)
        device.reset_peak()
        seconds = statistics.median(context.timed(step)[0] for _ in range(3))
    finally:
        context.limit(None)
    allocated, reserved = device.peak()
    figures = {
        "seconds": round(seconds, 4),
        "first_s": round(first, 2),
        "resident_before": variant.figures["resident"],
        "resident_after": len(context.dit.resident),
        "peak_allocated_gib": round(allocated / GIB, 2),
        "peak_reserved_gib": round(reserved / GIB, 2),
    }
    context.figures.setdefault("sizes", {})[name] = figures
    context.say("   ", figures)


def products(context: Context) -> None:
    """Compare the ways to multiply in FP8: speed, error."""
    exact = next((v.output for v in context.variants if v.precision is None), None)
    fast = next((v for v in context.ours() if v.precision is Precision.FP8_FAST), None)
    if fast is None:
        return
    context.stepper(fast)
    if context.dit.execution.matmul is Matmul.WEIGHT_ONLY:
        return
    ways = [Matmul.ROW, Matmul.ROW_QUICK]
    if context.cuda:  # on a CPU, products with one scale take a slow way
        ways += [Matmul.TENSOR, Matmul.ROW]
    for matmul in ways:
        step = context.stepper(replace(fast, matmul=matmul, figures={}))
        _, out = context.timed(step)
        seconds = statistics.median(context.timed(step)[0] for _ in range(5))
        figures: dict[str, float] = {"seconds": seconds}
        if exact is not None:
            figures["error"] = parts.error(out.float().cpu(), exact)
        context.figures.setdefault("products", {})[str(matmul)] = figures
        context.say(f"    {matmul}", figures)


def whole_picture(context: Context) -> None:
    """Time all steps of a picture, of a second one, and a new schedule's modulation."""
    for variant in context.ours():
        context.stepper(variant)
        marks: list[float] = []
        context.dit.network.forget()
        for seed in (1, 2):
            started = time.perf_counter()
            denoise(context.dit, context.drawing(seed), on_step=lambda _done, _total: None)
            marks.append(time.perf_counter() - started)
        context.dit.network.forget()
        started = time.perf_counter()
        context.stepper(variant)
        context.dit.device.synchronise()
        table = time.perf_counter() - started
        figures = {"first_s": marks[0], "second_s": marks[1], "new_schedule_s": table}
        context.figures.setdefault("whole_picture", {})[variant.name] = figures
        context.say(f"    {variant.name}", figures)


def cancel(context: Context) -> None:
    """Ask for an end in the middle of a step; measure until the GPU is idle."""
    marks = [time.perf_counter(), 0.0]
    event = threading.Event()

    def ask() -> None:
        marks[1] = time.perf_counter()
        event.set()

    def watch(done: int, total: int) -> None:
        if event.is_set() or done == total:
            raise KeyboardInterrupt
        if done == 1:
            threading.Timer((time.perf_counter() - marks[0]) / 2, ask).start()

    try:
        denoise(context.dit, context.drawing(3), on_step=watch)
    except KeyboardInterrupt:
        context.dit.device.synchronise()
        event.wait()
        context.figures["cancel_s"] = time.perf_counter() - marks[1]
        context.say("    cancel to idle", context.figures["cancel_s"])


def low_rank(context: Context) -> None:
    """Time a step with a LoRA on every block's attention, and switching it on."""
    dim, layers = context.geometry.dim, context.geometry.layers
    names = ("to_q", "to_k", "to_v", "to_out.0")
    state = {
        f"transformer_blocks.{index}.attn.{name}.lora_{side}.weight": 0.01 * torch.randn(shape)
        for index in range(layers)
        for name in names
        for side, shape in (("A", (_LORA_RANK, dim)), ("B", (dim, _LORA_RANK)))
    }
    for variant in context.ours():
        context.stepper(variant)
        started = time.perf_counter()
        context.dit.use([parse("random", state)])
        switched = time.perf_counter() - started
        step = context.stepper(variant)
        first, _ = context.timed(step)
        seconds = statistics.median(context.timed(step)[0] for _ in range(3))
        figures = {"seconds": seconds, "first_s": first, "switch_s": switched}
        figures["resident"] = len(context.dit.resident)
        context.dit.use([])
        context.figures.setdefault("lora", {})[variant.name] = figures
        context.say(f"    {variant.name}", figures)


def precise_modulation(context: Context) -> None:
    """Measure how much of the error comes from eight bits in the modulation's weights."""
    bf16 = next((v.output for v in context.variants if v.precision is None), None)
    exact = bf16 if context.exact is None else context.exact
    if exact is None:
        return
    for storage in list(context.loaded):
        context.use(storage)
        _pack_modulation(context, Storage.PLAIN)
        for variant in context.ours():
            if variant.precision is None or variant.precision.storage is not storage:
                continue
            started = time.perf_counter()
            step = context.stepper(variant)
            context.dit.device.synchronise()
            seconds = time.perf_counter() - started
            error = parts.error(step().float().cpu(), exact)
            context.dit.network.forget()
            figures = {"error": error, "new_schedule_s": seconds}
            context.figures.setdefault("modulation_bf16", {})[variant.name] = figures
            context.say(f"    {variant.name}", figures)
        _pack_modulation(context, storage)


def _pack_modulation(context: Context, storage: Storage) -> None:
    layout = modulation_layout(context.geometry, DTYPE, storage)
    context.dit.weights.layouts["modulation"] = layout
    for index in range(context.geometry.layers):
        state = random_weights.random_block(context.geometry, index, context.device, DTYPE)
        context.dit.add_packed("modulation", index, layout.pack(state, context.device))
    context.dit.network.forget()


def profile(context: Context) -> None:
    """Say where the time of a step goes."""
    if not context.cuda:
        return
    for variant in context.ours():
        step = context.stepper(variant)
        step()
        rows = parts.profile(step)
        context.figures.setdefault("profile", {})[variant.name] = rows
        context.say(f"    {variant.name}", "")
        for kernel, milliseconds, calls in rows:
            context.say(f"      {milliseconds:8.2f} ms {calls:5d}", kernel)


SINGLE: Final[dict[str, Callable[[Context], None]]] = {
    "products": products,
    "profile": profile,
    "whole picture": whole_picture,
    "modulation in bf16": precise_modulation,
    "LoRA": low_rank,
    "cancel": cancel,
    "sizes": sizes,
}
