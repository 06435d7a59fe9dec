from __future__ import annotations

from typing import Any

import pytest
import torch
from diffsynth.diffusion import FlowMatchScheduler
from diffsynth.pipelines.qwen_image import model_fn_qwen_image
from PIL import Image

from bot.engine.stream.budget import GIB
from bot.engine.stream.denoise import noise
from bot.engine.stream.double_stream import DoubleStream
from bot.engine.stream.layout import Precision
from bot.engine.stream.network import Generation, NetworkKind
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.transformer import StreamedDiT
from bot.errors import EngineError
from bot.lab.step import random_weights

CPU = torch.device("cpu")
WIDTH, HEIGHT = 128, 96
TIMESTEPS = torch.tensor([1000.0, 700.3, 333.3])
_QUICK = {Precision.PLAIN, Precision.INT8}
# Each precision; those besides the plain one and what `auto` begins with take their time in
# `make check`.
EACH_PRECISION = [
    pytest.param(one, marks=() if one in _QUICK else pytest.mark.slow) for one in Precision
]


def stock(dtype: torch.dtype = torch.float32) -> Any:
    """DiffSynth's own transformer, small and random."""
    return random_weights.random_dit(random_weights.SMALL, random_weights.SMALL_TEXT, CPU, dtype)


def streamed(
    precision: Precision = Precision.PLAIN,
    dtype: torch.dtype = torch.float32,
    kind: NetworkKind = DoubleStream,
    **settings: Any,
) -> StreamedDiT:
    return StreamedDiT.from_module(
        stock(dtype), TransformerSettings(precision=precision, dtype=dtype, **settings), kind
    )


def prompt(tokens: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, random_weights.SMALL_TEXT, generator=generator)


PROMPTS = [prompt(11, 1), prompt(5, 2)]


def prepared(dit: StreamedDiT, prompts: Any = None, pictures: int = 1) -> Generation:
    return dit.prepare(
        PROMPTS if prompts is None else prompts,
        TIMESTEPS,
        width=WIDTH,
        height=HEIGHT,
        pictures=pictures,
    )


def predicted(dit: StreamedDiT, guidance: float = 4.0, step: int = 1) -> torch.Tensor:
    latents = noise([3], WIDTH, HEIGHT, dit.settings.dtype)
    return dit.predict(prepared(dit), step, latents, guidance)


@torch.no_grad()
def stock_branch(dit: Any, text: torch.Tensor, step: int = 1) -> torch.Tensor:
    dtype = dit.img_in.weight.dtype
    return model_fn_qwen_image(
        dit=dit,
        latents=noise([3], WIDTH, HEIGHT, dtype),
        timestep=TIMESTEPS[step : step + 1].to(dtype),
        prompt_emb=text[None].to(dtype),
        prompt_emb_mask=torch.ones(1, len(text), dtype=torch.long),
        height=HEIGHT,
        width=WIDTH,
    )


def stock_prediction(dit: Any, guidance: float = 4.0) -> torch.Tensor:
    positive, negative = (stock_branch(dit, text) for text in PROMPTS)
    return negative + guidance * (positive - negative)


def error(out: torch.Tensor, exact: torch.Tensor) -> float:
    return ((out.double() - exact.double()).norm() / exact.double().norm()).item()


def schedule(steps: int) -> torch.Tensor:
    scheduler: Any = FlowMatchScheduler("Qwen-Image")
    scheduler.set_timesteps(steps, dynamic_shift_len=(WIDTH // 16) * (HEIGHT // 16))
    return scheduler.timesteps


def budget_for(dit: StreamedDiT, resident: int) -> int:
    """The smallest budget at which `resident` blocks of the small model stay."""
    low, high = 0, GIB
    while high - low > 1:
        middle = (low + high) // 2
        try:
            dit.configure(middle, dit.settings.precision, compiled=False)
            kept = len(dit.plan(dit.settings.usual).resident)
        except EngineError:  # too small for anything
            kept = -1
        low, high = (low, middle) if kept >= resident else (middle, high)
    return high


def rounded(values: torch.Tensor) -> Image.Image:
    """The picture of a VAE's values [1, 3, height, width] from -1 to 1, to the nearest level."""
    levels = ((values[0].float().permute(1, 2, 0) + 1) * 127.5).round().clip(0, 255)
    return Image.fromarray(levels.to(torch.uint8).cpu().numpy())
