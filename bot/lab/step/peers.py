"""diffusers' group offloading around the same blocks, where diffusers is installed.

diffusers is the best maintained library that streams weights; it keeps no block on the device and
visits each one once per branch. The blocks are DiffSynth's with the weights of the other variants.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bot.engine.stream.budget import GIB
from bot.engine.stream.layout import Precision
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.transformer import StreamedDiT
from bot.lab.step import parts, random_weights
from bot.lab.step.context import DTYPE, Context, Variant


class _Root(nn.Module):
    """The module that diffusers' hooks take for the model: its forward is one branch of a step.

    They learn the order of the blocks from one forward, in which each must come once.
    """

    def __init__(self, dit: Any, predict: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.transformer_blocks = dit.transformer_blocks
        self._predict = predict

    def forward(self, prompt: Tensor) -> Tensor:
        return self._predict(prompt)


def group_offloading(context: Context) -> None:
    """Compare outputs and speed: bf16 and FP8, theirs and ours at the smallest budget."""
    if not context.cuda or importlib.util.find_spec("diffusers") is None:
        context.say("    needs a GPU and diffusers", "left out")
        return
    resident, theirs = _theirs(context, fp8=False)
    _tidy(context)
    _note(context, "diffusers group offload, bf16", theirs, resident)
    budget = min(v.budget for v in context.variants if v.budget is not None)
    _note(context, f"ours, bf16 {budget / GIB:g} GiB", _ours_plain(context, budget), resident)
    _, theirs = _theirs(context, fp8=True)
    _tidy(context)
    _note(context, "diffusers group offload, FP8 cast", theirs, resident)
    for compiled in (False, True):
        name = f"ours, fp8 {budget / GIB:g} GiB {'compiled' if compiled else 'eager'}"
        variant = Variant(name, Precision.FP8, budget, compiled)
        _note(context, name, _run(context, context.stepper(variant)), resident)


def _tidy(context: Context) -> None:
    gc.collect()  # modules and their hooks point at one another
    context.dit.device.release_cache()


def _theirs(context: Context, *, fp8: bool) -> tuple[Tensor, tuple[float, float, Tensor]]:
    """Return the output of resident blocks, and the same blocks' offloaded."""
    hooks: Any = importlib.import_module("diffusers.hooks")
    dit = random_weights.random_dit(context.geometry, context.text, context.device, DTYPE)
    size = context.usual
    latents = context.noise(size.width, size.height).to(context.device)
    timesteps = context.schedule(size.width, size.height)
    predict = parts.stock_branch(context.subject, dit, latents, timesteps, context.references)

    @torch.no_grad()
    def step(branch: Callable[[Tensor], Tensor]) -> Tensor:
        return parts.guided(context.subject, [branch(prompt) for prompt in context.prompts])

    exact = step(predict).float().cpu()
    if fp8:
        for block in dit.transformer_blocks:
            hooks.apply_layerwise_casting(
                block, storage_dtype=torch.float8_e4m3fn, compute_dtype=DTYPE
            )
    dit.transformer_blocks.to("cpu")
    context.dit.device.release_cache()
    root = _Root(dit, predict)
    hooks.apply_group_offloading(
        root,
        onload_device=context.device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=True,
        record_stream=True,
    )
    found = _run(context, lambda: step(root))
    return exact, found


def _ours_plain(context: Context, budget: int) -> tuple[float, float, Tensor]:
    geometry, device = context.geometry, context.device
    outer = random_weights.random_dit(geometry, context.text, device, DTYPE, blocks=False)
    settings = TransformerSettings(
        device=str(device),
        dtype=DTYPE,
        budget=budget,
        precision=Precision.PLAIN,
        usual=context.usual,
    )
    dit = StreamedDiT(outer, geometry, settings)
    for index in range(geometry.layers):
        dit.add_block(index, random_weights.random_block(geometry, index, device, DTYPE))
    size = context.usual
    generation = dit.prepare(
        context.prompts,
        context.schedule(size.width, size.height),
        width=size.width,
        height=size.height,
        references=context.references,
    )
    latents = context.noise(size.width, size.height).to(device)
    return _run(context, lambda: dit.predict(generation, 0, latents, context.subject.guidance))


def _run(context: Context, step: Callable[[], Tensor]) -> tuple[float, float, Tensor]:
    """Return the median seconds of a step, the peak in GiB, and the output."""
    for _ in range(2):
        step()
    context.dit.device.reset_peak()
    runs = [context.timed(step) for _ in range(max(3, context.options.steps))]
    seconds = statistics.median(seconds for seconds, _ in runs)
    return seconds, context.dit.device.peak()[0] / GIB, runs[-1][1].float().cpu()


def _note(context: Context, name: str, run: tuple[float, float, Tensor], resident: Tensor) -> None:
    seconds, peak, out = run
    figures = {
        "seconds": round(seconds, 4),
        "peak_allocated_gib": round(peak, 2),
        "error": round(parts.error(out, resident), 5),
        "identical_to_resident": torch.equal(out, resident),
    }
    context.figures.setdefault("group_offloading", {})[name] = figures
    context.say(f"    {name}", figures)
