"""How a budget is shared out for Qwen-Image-2.1 at full size, without its weights."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from diffsynth.core.vram.initialization import skip_model_initialization
from diffsynth.models.qwen_image_21_vae import QwenImage21VAE

from bot.catalogue.models import find_model
from bot.doctor.budget import ALL_RESIDENT_GIB
from bot.engine.card_budget import GIB, Bound, CardBudget
from bot.engine.child.references import drawn_sizes
from bot.engine.models.streamed_card import USUAL_TEXT_TOKENS, transformer_settings
from bot.engine.options import EngineOptions
from bot.engine.stream.any_dit import any_single_dit
from bot.engine.stream.budget import Work, activation_bytes
from bot.engine.stream.decode import working_bytes
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
from bot.errors import EngineError

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
        guided=False,
        references=drawn_sizes,
    )
    settings = replace(settings, budget=None, compile=False, cache=None)
    return StreamedDiT(outer.to_empty(device="cpu"), GEOMETRY, settings, SingleStream)


def resident(gib: float, work: Work | None = None, *, compiled: bool = True) -> int:
    dit = engine()
    dit.execution.settings = replace(dit.execution.settings, budget=int(gib * GIB))
    dit.execution.kernels.compiled = compiled
    return len(dit.plan(dit.settings.usual if work is None else work).resident)


@pytest.mark.parametrize("gib", [0.339, 0.293, 0.385])
def test_a_step_has_room_for_what_was_measured(gib):
    """docs/performance.md: `fp8` and `int8`, `fp8-fast`, `int8-fast`, compiled, of 110 tokens."""
    work = Work(1344, 768, 1, (110,))
    planned = activation_bytes(work, GEOMETRY, 2, compiled=True, peak=SingleStream.peak) / GIB
    assert 1.05 * gib < planned < 0.45


@pytest.mark.parametrize(
    ("size", "tiled", "gib"),
    [
        ((1344, 768), False, 3.06),
        ((2048, 2048), False, 12.39),
        ((1344, 768), True, 0.79),
        ((2048, 2048), True, 0.84),
    ],
)
def test_decoding_has_room_for_what_was_measured(size, tiled, gib):
    planned = working_bytes(*size, 2, tiled=tiled, kind=QWEN_IMAGE_21_VAE) / GIB
    assert gib < planned < 1.15 * gib


@pytest.mark.parametrize("compiled", [True, False])
def test_the_usual_picture_has_room_in_four_gibibytes(compiled):
    published = find_model("Qwen/Qwen-Image-2.1").published
    assert published is not None
    assert 0 < resident(published.vram_gib, compiled=compiled) < 32


def test_larger_ones_and_batches_make_blocks_leave():
    assert 0 < resident(8, Work(2048, 2048)) < resident(8, Work(1344, 768, 4)) < resident(8) < 32


def test_the_doctor_knows_from_which_budget_on_all_blocks_stay():
    most = ALL_RESIDENT_GIB["qwen-image-21"]
    assert resident(most) == 32
    assert resident(most - 0.3) < 32


def test_an_edit_without_room_is_told_a_size_at_which_its_references_are_smaller_too():
    with pytest.raises(EngineError) as caught:
        resident(8, Work(2048, 2048, references=((2048, 2048),)))
    side = int(caught.value.values["smaller"].split("x")[0])
    assert 1024 <= side < 2048
    assert resident(8, Work(side, side, references=((side, side),))) >= 0
