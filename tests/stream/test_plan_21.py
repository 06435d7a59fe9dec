"""How a budget is shared out for Qwen-Image-2.1 at full size, without its weights."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from diffsynth.core.vram.initialization import skip_model_initialization
from diffsynth.models.qwen_image_21_vae import QwenImage21VAE

from bot.doctor.budget import ALL_RESIDENT_GIB
from bot.engine.card_budget import GIB, Bound, CardBudget
from bot.engine.models.streamed_card import USUAL_TEXT_TOKENS, transformer_settings
from bot.engine.options import EngineOptions
from bot.engine.stream.any_dit import any_single_dit
from bot.engine.stream.budget import Work
from bot.engine.stream.device import Device
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.layout import Geometry
from bot.engine.stream.loading import text_config_21
from bot.engine.stream.single_stream import SingleStream
from bot.engine.stream.slim_vae import slim
from bot.engine.stream.storage import Storage
from bot.engine.stream.text_layout import QWEN3
from bot.engine.stream.transformer import StreamedDiT
from bot.engine.stream.vae_kind import QWEN_IMAGE_21_VAE

GEOMETRY = Geometry(32, 4096, 32)


@cache
def engine() -> StreamedDiT:
    """As `assemble` makes it, on the CPU and without blocks."""
    dtype = torch.bfloat16
    with skip_model_initialization():
        vae = QwenImage21VAE()
        slim(vae)
        outer = any_single_dit(GEOMETRY, 4096, blocks=False)
    encoder = StreamedTextEncoder(
        text_config_21(), Device(), dtype, storage=Storage.FP8, family=QWEN3
    )
    settings = transformer_settings(
        EngineOptions(Path("unused"), precision="fp8"),
        CardBudget(0, Bound.FREE, 0),
        others=sum(p.numel() for p in vae.parameters()) * dtype.itemsize
        + encoder.geometry.layers * encoder.layout.small_size,
        encoding=encoder.working_bytes(USUAL_TEXT_TOKENS),
        vae=QWEN_IMAGE_21_VAE,
        device="cpu",
    )
    settings = replace(settings, budget=None, compile=False, cache=None)
    return StreamedDiT(outer.to_empty(device="cpu"), GEOMETRY, settings, SingleStream)


def resident(gib: float, work: Work | None = None, *, compiled: bool = True) -> int:
    dit = engine()
    dit.execution.settings = replace(dit.execution.settings, budget=int(gib * GIB))
    dit.execution.kernels.compiled = compiled
    return len(dit.plan(dit.settings.usual if work is None else work).resident)


@pytest.mark.parametrize("compiled", [True, False])
def test_the_usual_picture_has_room_in_four_gibibytes(compiled):
    assert 0 < resident(4, compiled=compiled) < 32


def test_larger_ones_and_batches_make_blocks_leave():
    assert 0 < resident(8, Work(2048, 2048)) < resident(8, Work(1344, 768, 4)) < resident(8) < 32


def test_the_doctor_knows_from_which_budget_on_all_blocks_stay():
    most = ALL_RESIDENT_GIB["qwen-image-21"]
    assert resident(most) == 32
    assert resident(most - 0.3) < 32
