"""The trial's parts that compute: blocks of random weights, compiled, timed; the VAE."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bot.engine.files.find import AUTO, COMPILED_FOLDER
from bot.engine.models.streamed_networks import precision_of
from bot.engine.stream.denoise import noise
from bot.engine.stream.device import Device
from bot.engine.stream.layout import Geometry
from bot.engine.stream.network import Generation
from bot.engine.stream.precision_choice import choose_for
from bot.engine.stream.transformer import StreamedDiT
from bot.engine.stream.warming import warm_up
from bot.lab.step import random_weights
from bot.lab.trial.bench import BLOCKS, Bench, Figures, timed
from bot.lab.trial.family import TRIED
from bot.lab.trial.projection import Pace
from bot.lab.trial.vae import random_codec

_ALL = frozenset(range(BLOCKS))
_NONE = frozenset[int]()


def blocks(bench: Bench) -> Figures:
    """Make blocks of random weights at the model's size, as the engine holds them."""
    whole, wish, started = bench.whole, bench.wish, time.perf_counter()
    device = "cpu" if wish.toy else "cuda"
    settings = replace(
        whole.dit.settings,
        device=device,
        precision=precision_of(wish.options.precision),
        budget=None,
        compile=wish.options.compile,
        cache=wish.options.model_path / COMPILED_FOLDER,
    )
    geometry = Geometry(BLOCKS, whole.geometry.dim, whole.geometry.heads)
    target, dtype = torch.device(device), settings.dtype
    width = whole.dit.network.text_width
    subject = TRIED[wish.family].subject
    outer = random_weights.random_dit(geometry, width, target, dtype, subject, blocks=False)
    bench.dit = dit = StreamedDiT(outer, geometry, settings, subject.network)
    for index in range(BLOCKS):
        dit.add_block(index, random_weights.random_block(geometry, index, target, dtype, subject))
    dit.device.release_cache()
    if wish.options.precision == AUTO and not wish.toy:
        choose_for(dit)
    return {
        "loaded": BLOCKS,
        "precision": dit.execution.precision,
        "seconds": time.perf_counter() - started,
        "products": dit.execution.matmul.value,
    }


def compiling(bench: Bench) -> Figures:
    """Compile a block for pictures with guidance and without, as at the first start."""
    dit, started = bench.dit, time.perf_counter()
    warm_up(dit)
    _stepper(bench, _ALL, guided=False)()
    dit.device.synchronise()
    why = dit.execution.uncompiled
    return {
        "wanted": bench.wish.options.compile,
        "compiled": why is None,
        "why_not": why,
        "seconds": time.perf_counter() - started,
    }


def steps(bench: Bench) -> Figures:
    """Time blocks that stay and blocks that are streamed, with the card as full as it will be."""
    dit, execution = bench.dit, bench.dit.execution
    bench.share = share = bench.whole.share(
        bench.budget.bytes, compiled=execution.compiled, matmul=execution.matmul
    )
    dit.weights.keep(_ALL, scratch=True)
    ballast = _fill(dit.device, bench.whole.block_bytes, share.resident - BLOCKS)
    room_for = len(ballast) + min(BLOCKS, share.resident)
    dit.device.reset_peak()
    bench.single, left_alone = _pace(bench, guided=False)
    bench.pace, left = bench.single, left_alone
    if bench.wish.guided:
        bench.pace, left = _pace(bench, guided=True)
    allocated, reserved = dit.device.peak()
    return {
        "resident": share.resident,
        "streamed_bytes_a_step": share.streamed_bytes,
        "room_for": room_for - max(left, left_alone),
        "around_the_blocks_s": bench.pace.around_s,
        "resident_block_s": bench.pace.resident_s,
        "streamed_block_s": bench.pace.streamed_s,
        "resident_block_without_guidance_s": bench.single.resident_s,
        "streamed_block_without_guidance_s": bench.single.streamed_s,
        "peak_allocated_bytes": allocated,
        "peak_reserved_bytes": reserved,
    }


def decoding(bench: Bench) -> Figures:
    """Decode a picture of the usual size in the room that the plan leaves."""
    device = bench.dit.device
    family = TRIED[bench.wish.family]
    codec = random_codec(family, device, bench.dit.settings.dtype, toy=bench.wish.toy)
    latents = _latents(bench)
    room = bench.whole.room(bench.budget.bytes)
    device.release_cache()
    device.reset_peak()
    bench.decode_s = timed(device, lambda: list(codec.decode(latents, room)))
    tiled = codec.last is not None and codec.last.tiled
    return {"seconds": bench.decode_s, "tiled": tiled, "peak_reserved_bytes": device.peak()[1]}


def _fill(device: Device, size: int, count: int) -> list[Tensor]:
    """Take the place of `count` resident blocks, or of as many as the card has room for."""
    held: list[Tensor] = []
    with suppress(torch.OutOfMemoryError):
        while len(held) < count:
            held.append(device.buffer(size).zero_())
    return held


def _pace(bench: Bench, *, guided: bool) -> tuple[Pace, int]:
    """Time blocks both ways; return how many gave way meanwhile, too, since memory ran out."""
    dit = bench.dit
    around_s = timed(dit.device, _around(bench, _prepared(bench, guided=guided)))
    seconds: list[float] = []
    left = 0
    for resident in (_ALL, _NONE):
        step_s = timed(dit.device, _stepper(bench, resident, guided=guided))
        seconds.append(max(0.0, step_s - around_s) / BLOCKS)
        left = max(left, len(resident - dit.resident))
    resident_s, streamed_s = seconds
    return Pace(resident_s, streamed_s, around_s), left


def _around(bench: Bench, generation: Generation) -> Callable[[], Any]:
    """Return what a step does around the blocks."""
    dit, latents = bench.dit, _latents(bench)
    height, width = latents.shape[-2:]

    @torch.no_grad()
    def work() -> None:
        moment = dit.network.moment(generation, 0)
        dit.network.finish(dit.network.units(generation, latents), moment, height, width)

    return work


def _stepper(bench: Bench, resident: frozenset[int], *, guided: bool) -> Callable[[], Any]:
    """Return one step of the usual picture, with one branch or both, and `resident` on the card."""
    dit, latents = bench.dit, _latents(bench)
    generation = _prepared(bench, guided=guided)
    dit.weights.keep(resident, scratch=True)
    guidance = bench.wish.standard.guidance
    return lambda: dit.predict(generation, 0, latents, guidance)


def _prepared(bench: Bench, *, guided: bool) -> Generation:
    dit, work = bench.dit, bench.dit.settings.usual
    lengths = work.text_tokens if guided else work.text_tokens[:1]
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randn(n, dit.network.text_width, generator=generator) for n in lengths]
    timesteps = torch.tensor([1000.0])
    return dit.prepare(prompts, timesteps, width=work.width, height=work.height)


def _latents(bench: Bench) -> Tensor:
    dit, work = bench.dit, bench.whole.usual
    latents = noise([1], work.width, work.height, dit.settings.dtype, dit.network.latents)
    return latents.to(dit.device.torch)
