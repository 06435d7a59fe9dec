"""Main phases of the step benchmark: load, each variant alone, all of them in turn."""

from __future__ import annotations

import argparse
import math
import statistics
import time
from typing import Any, Final

import torch

from bot.engine.stream import pinned, quantize
from bot.engine.stream.budget import GIB, activation_bytes
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.storage import Storage
from bot.engine.stream.transformer import StreamedDiT
from bot.lab.step import parts, random_weights, rowless, unpinned
from bot.lab.step.context import DTYPE, Context, Variant
from bot.lab.step.depth import depth
from bot.lab.step.exact import prediction
from bot.lab.step.matrices import matrices
from bot.lab.step.peers import group_offloading
from bot.lab.step.single import SINGLE
from bot.lab.step.subject import QWEN_IMAGE, QWEN_IMAGE_EDIT

# They measure its own blocks, its modulation, and LoRAs by its layers' names.
_QWEN_IMAGE_ALONE: Final = ("matrices", "depth", "modulation in bf16", "LoRA", "group offload")


def run(options: argparse.Namespace) -> int:
    """Run every phase; return how many failed."""
    context = Context(options)
    if options.no_pinning:
        pinned.register = unpinned.refuse
    if options.refuse_rowwise:
        quantize.scaled_mm = rowless.scaled_mm
    context.say("machine", context.figures["machine"])
    phases = {"ceilings": ceilings, "matrices": matrices, "depth": depth}
    phases |= {"load": load, "exact": exact, "alone": alone, "rounds": rounds} | SINGLE
    phases["group offload"] = group_offloading
    if context.subject not in (QWEN_IMAGE, QWEN_IMAGE_EDIT):
        phases = {name: phase for name, phase in phases.items() if name not in _QWEN_IMAGE_ALONE}
    for name, phase in phases.items():
        if options.phases is None or name in options.phases.split(",") or name == "load":
            context.guarded(name, lambda p=phase: p(context))
            context.save()
    table(context)
    return context.failed


def ceilings(context: Context) -> None:
    """Measure what the machine can do at best."""
    if context.cuda:
        figures = parts.ceilings(context.device, context.geometry)
        context.figures["ceilings"] = figures
        for name, value in figures.items():
            context.say(name, value)


def load(context: Context) -> None:
    """Make and pack random weights in each form; say how much main memory each budget needs."""
    for storage in dict.fromkeys(precision.storage for precision in context.precisions):
        _load(context, storage)


def _load(context: Context, storage: Storage) -> None:
    started = time.perf_counter()
    geometry, device = context.geometry, context.device
    outer = random_weights.random_dit(
        geometry, context.text, device, DTYPE, context.subject, blocks=False
    )
    precisions = [p for p in context.precisions if p.storage is storage]
    first = next(v for v in context.variants if v.precision in precisions)
    settings = TransformerSettings(
        device=str(device),
        dtype=DTYPE,
        precision=precisions[0],
        budget=first.budget,
        compile=first.compiled,
        usual=context.usual,
    )
    dit = StreamedDiT(outer, geometry, settings, context.subject.network)
    for index in range(geometry.layers):
        block = random_weights.random_block(geometry, index, device, DTYPE, context.subject)
        dit.add_block(index, block)
    dit.device.release_cache()
    context.loaded[storage] = dit
    context.use(storage)
    figures: dict[str, Any] = {"seconds": time.perf_counter() - started}
    figures["host_bytes"] = dit.weights.host_bytes
    sizes = [layout.size for layout in dit.layouts]
    for precision in precisions:
        for gib in (4, 8, 12, 14, 16, 24):
            dit.configure(gib * GIB, precision, compiled=first.compiled)
            streamed = geometry.layers - len(dit.plan(context.usual).resident)
            size = streamed * sizes[0] + geometry.layers * sum(sizes[1:])
            figures[f"host GiB, {precision} {gib} GiB"] = round(size / GIB, 2)
    context.figures.setdefault("load", {})[storage] = figures
    context.say(f"load {storage}", figures)


def exact(context: Context) -> None:
    """Compute what all variants are compared with: the same prediction in float32."""
    width, height = context.usual.width, context.usual.height
    latents = context.noise(width, height).to(context.device)
    context.exact = prediction(
        context.subject,
        context.geometry,
        context.text,
        context.prompts,
        latents,
        context.schedule(width, height),
        DTYPE,
        context.references,
    )


def alone(context: Context) -> None:
    """Run each of ours under a hard limit of its budget: peaks, first step, predictions."""
    for variant in context.variants:
        if variant.precision is not None:
            context.guarded(variant.name, lambda v=variant: _one_alone(context, v))
    kinds: dict[tuple[Any, ...], list[Variant]] = {}
    for variant in context.variants:
        if variant.output is not None:
            kinds.setdefault((variant.precision, variant.compiled), []).append(variant)
    for same in kinds.values():
        for variant in same:
            assert variant.output is not None
            last = same[-1].output
            assert last is not None
            variant.figures["identical_to_resident"] = torch.equal(variant.output, last)


def _one_alone(context: Context, variant: Variant) -> None:
    device = context.settled(variant).device
    context.limit(variant.budget)
    try:
        step = context.stepper(variant)
        first, _ = context.timed(step)
        device.release_cache()
        device.reset_peak()
        before = torch.cuda.memory_allocated() if context.cuda else 0
        seconds, out = context.timed(step)
        again, _ = context.timed(step)
    finally:
        context.limit(None)
    allocated, reserved = device.peak()
    planned = activation_bytes(
        context.usual,
        context.geometry,
        DTYPE.itemsize,
        compiled=variant.compiled,
        peak=context.dit.network.peak,
    )
    variant.output = out.float().cpu()
    variant.figures |= {
        "first_s": first,
        "alone_s": min(seconds, again),
        "peak_allocated_gib": allocated / GIB,
        "peak_reserved_gib": reserved / GIB,
        "activations_gib": (allocated - before) / GIB,
        "activations_planned_gib": planned / GIB,
    }
    if variant.budget is not None and context.cuda:
        variant.figures["within_budget"] = reserved <= variant.budget
    shown = {k: round(v, 3) if isinstance(v, float) else v for k, v in variant.figures.items()}
    context.say("   ", shown)


def rounds(context: Context) -> None:
    """Time all variants in turn, several times over; then compare what they predicted."""
    for number in range(context.options.rounds):
        for variant in context.variants:
            if variant.precision is None or variant.output is not None:
                name = f"round {number + 1}, {variant.name}"
                context.guarded(name, lambda v=variant: _one_round(context, v))
    bf16 = next((v.output for v in context.variants if v.precision is None), None)
    known = context.exact
    for variant in context.variants:
        if variant.output is None:
            continue
        if bf16 is not None:
            variant.figures["error"] = parts.error(variant.output, bf16)
        if known is not None:
            error = variant.figures["error_float32"] = parts.error(variant.output, known)
            if bf16 is not None:
                # What the arithmetic of bf16 alone leaves is no fault of a way to store weights.
                own = parts.error(bf16, known)
                variant.figures["excess"] = math.sqrt(max(0.0, error**2 - own**2))


def _one_round(context: Context, variant: Variant) -> None:
    step = context.stepper(variant)
    context.timed(step)
    runs = [context.timed(step) for _ in range(context.options.steps)]
    seconds = statistics.median(s for s, _ in runs)
    variant.seconds.append(seconds)
    if variant.output is None:
        variant.output = runs[-1][1].float().cpu()
    context.say("   ", round(seconds, 4))


def table(context: Context) -> None:
    """Print the variants' medians and ratios to the first reference."""
    base = next((v for v in context.variants if v.precision is None), None)
    reference = base.seconds if base else []
    head = f"{'variant':34s} {'s/step':>8s} {'x ref':>6s} {'peak GiB':>11s} {'error':>7s}"
    lines = [f"{head} {'float32':>8s} {'excess':>7s}"]
    for variant in context.variants:
        if not variant.seconds:
            continue
        ratios = [a / b for a, b in zip(variant.seconds, reference, strict=False)]
        ratio = statistics.median(ratios) if ratios else float("nan")
        variant.figures["ratio"] = ratio
        peaks = "/".join(
            f"{variant.figures[key]:.2f}"
            for key in ("peak_allocated_gib", "peak_reserved_gib")
            if key in variant.figures
        )
        median = statistics.median(variant.seconds)
        error = variant.figures.get("error", float("nan"))
        exact, excess = (
            variant.figures.get(key, float("nan")) for key in ("error_float32", "excess")
        )
        lines.append(
            f"{variant.name:34s} {median:8.4f} {ratio:6.2f} {peaks:>11s} {error:7.4f}"
            f" {exact:8.4f} {excess:7.4f}"
        )
    print("\n".join(lines), flush=True)  # noqa: T201
    context.save()
