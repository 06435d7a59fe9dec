"""The denoising loop: what `QwenImagePipeline` does between prompt and VAE, for a batch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from diffsynth.diffusion import FlowMatchScheduler
from torch import Tensor

from bot.engine.options import Activity
from bot.engine.stream.double_stream import LATENTS
from bot.engine.stream.finite import finite
from bot.engine.stream.layout import LatentShape
from bot.engine.stream.region import toward_source
from bot.engine.stream.reuse import Reuse
from bot.engine.stream.transformer import StreamedDiT

OnStage = Callable[[Activity], None]
"""Called with what is done from now on: `COMPILE`, where it must be, and `DENOISE`; may raise."""
OnStep = Callable[[int, int], None]
"""Called with the number of steps done (1-based) and in total; may raise to cancel."""
OnLatents = Callable[[int, Tensor], None]
"""Called with the number of steps done and the predicted final latents [pictures, 16, h/8, w/8]."""


@dataclass(frozen=True, slots=True)
class DenoiseInputs:
    """One request. `seeds` has one number per picture; `negative` is unused at guidance 1.

    `positive` and `negative` are the text encoder's [tokens, width]. `source` [1 or pictures, 16,
    height / 8, width / 8] are an input picture's latents, of which `strength` (0 to 1) is redrawn.
    `mask` [1, 1, height / 8, width / 8] says where: 1 redraws, 0 ends as the source. Both have a
    sixteenth of the sides where the VAE has. A mask without a source raises `ValueError`.
    `references` are latents [1, 16, h / 8, w / 8] of pictures of any sizes that every picture is
    drawn after: they are no part of the noise, and may come with a `source`.
    `places` are what `Inputs` says of them.
    `shift` and `noise_levels` are what `schedule` says, `cfg_norm` is that of `guided`,
    `reuse` the threshold of `Reuse`; 0 computes every step.
    """

    positive: Tensor
    negative: Tensor | None
    seeds: Sequence[int]
    width: int
    height: int
    steps: int = 30
    guidance: float = 4.0
    source: Tensor | None = None
    strength: float = 1.0
    mask: Tensor | None = None
    shift: float | None = None
    noise_levels: tuple[float, ...] = ()
    cfg_norm: bool = False
    reuse: float = 0.0
    references: tuple[Tensor, ...] = ()
    places: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.mask is not None and self.source is None:
            raise ValueError("a mask without a source to lead back to")


def schedule(inputs: DenoiseInputs) -> FlowMatchScheduler:
    """Return the scheduler with the noise levels of a request.

    Without a `shift` they are Qwen-Image's: moved up further for larger pictures, and stretched so
    that the last one is 0.02. With one, they are t -> shift * t / (1 + (shift - 1) * t) of evenly
    spaced t for every size, and not stretched, as the Lightning distillations were trained.
    `noise_levels` are a model's own (`ModelSpec.levels_of`), whatever the size.
    """
    strength = 1.0 if inputs.source is None else inputs.strength
    if inputs.noise_levels:
        scheduler = FlowMatchScheduler("Qwen-Image")
        scheduler.set_timesteps(len(inputs.noise_levels), sigmas=list(inputs.noise_levels))
        return scheduler
    if inputs.shift is None:
        scheduler = FlowMatchScheduler("Qwen-Image")
        tokens = (inputs.height // 16) * (inputs.width // 16)
        # DiffSynth's formula stretches the levels by their first and last, and divides 0 by 0.
        single: dict[str, Any] = {"sigmas": [strength]} if inputs.steps == 1 else {}
        scheduler.set_timesteps(
            inputs.steps, denoising_strength=strength, dynamic_shift_len=tokens, **single
        )
    else:
        scheduler = FlowMatchScheduler("Qwen-Image-Lightning")
        scheduler.set_timesteps(
            inputs.steps,
            denoising_strength=strength,
            exponential_shift_mu=math.log(inputs.shift),
        )
    return scheduler


def noise(
    seeds: Sequence[int],
    width: int,
    height: int,
    dtype: torch.dtype,
    latents: LatentShape = LATENTS,
) -> Tensor:
    """Return each picture's noise, as the pipeline draws it: on the CPU, in `dtype`."""
    shape = latents.of(1, width, height)
    return torch.cat(
        [
            torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
            for seed in seeds
        ]
    )


@torch.no_grad()
def denoise(
    dit: StreamedDiT,
    inputs: DenoiseInputs,
    *,
    on_stage: OnStage | None = None,
    on_step: OnStep | None = None,
    on_latents: OnLatents | None = None,
) -> Tensor:
    """Return the finished latents [pictures, 16, height / 8, width / 8].

    `on_step` is called when the GPU has finished a step, so an exception from it ends the work
    within one step. Raises `NotFinite` at the first step whose result is no number.
    """
    device, dtype = dit.device.torch, dit.settings.dtype
    scheduler = schedule(inputs)
    # The noise is the pipeline's own; what is added to it stays whole: in bfloat16 each of forty
    # steps would round away what the next ones cannot give back.
    latents = (
        noise(inputs.seeds, inputs.width, inputs.height, dtype, dit.network.latents)
        .to(device)
        .float()
    )
    source, mask = (
        None if one is None else one.to(device, torch.float32)
        for one in (inputs.source, inputs.mask)
    )
    if source is not None:
        latents = scheduler.add_noise(source, latents, timestep=scheduler.timesteps[0])
    prompts = [inputs.positive]
    if inputs.guidance != 1.0 and inputs.negative is not None:
        prompts.append(inputs.negative)
    generation = dit.prepare(
        prompts,
        scheduler.timesteps,
        width=inputs.width,
        height=inputs.height,
        pictures=len(inputs.seeds),
        references=inputs.references,
        places=inputs.places,
        on_compile=None if on_stage is None else partial(on_stage, Activity.COMPILE),
    )
    if on_stage is not None:
        on_stage(Activity.DENOISE)
    total = len(scheduler.timesteps)
    reuse = Reuse(inputs.reuse, scheduler.sigmas, len(latents))
    for step in range(total):
        started = time.perf_counter()
        due = reuse.due(step)
        if due:
            some = latents if len(due) == len(latents) else latents[due]
            fresh = dit.predict(generation, step, some, inputs.guidance, norm=inputs.cfg_norm)
            reuse.note(step, due, finite(fresh))
        predicted = reuse.predictions()
        if mask is not None and source is not None:
            sigma = scheduler.sigmas[step]
            predicted = toward_source(predicted, latents, source, mask, sigma)
        if on_latents is not None:
            on_latents(step + 1, latents - scheduler.sigmas[step] * predicted)
        latents = scheduler.step(predicted, scheduler.timesteps[step], latents)
        if on_step is not None:
            dit.device.synchronise()
            if due:
                # Fewer pictures are other work: a step of all of them is not slow beside it.
                work = replace(generation.work, pictures=len(due))
                dit.note_step(work, time.perf_counter() - started)
            on_step(step + 1, total)
    return finite(latents)
