"""What is kept of the sizes that were asked for: a fixed amount, however many there were."""

from __future__ import annotations

import gc

import pytest
import torch

from bot.engine.models.diffsynth import DiffSynthModel
from bot.engine.options import EngineOptions
from bot.engine.stream.denoise import noise
from tests.engine.kit import Quiet, request
from tests.stream.kit import PROMPTS, TIMESTEPS, streamed

SIZES = [(64 + 16 * i, 64 + 16 * (i % 5)) for i in range(12)]


def held() -> int:
    """The bytes of all tensors that live in this process."""
    gc.collect()
    storages = {
        one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
        for one in gc.get_objects()
        if type(one) in (torch.Tensor, torch.nn.Parameter) and one.device.type == "cpu"
    }
    return sum(storages.values())


@pytest.mark.slow
def test_many_sizes_take_no_more_memory_than_one():
    dit = streamed()

    def draw(width: int, height: int) -> None:
        generation = dit.prepare(PROMPTS, TIMESTEPS, width=width, height=height)
        dit.predict(generation, 0, noise([1], width, height, torch.float32), 4.0)

    draw(*SIZES[-1])
    before = held()
    for size in SIZES:
        draw(*size)
    assert held() <= before


@pytest.mark.engine
def test_diffsynths_own_pipeline_keeps_no_sizes_either(tmp_path):
    model = DiffSynthModel("tiny", EngineOptions(tmp_path, offload="stock"))
    model.load(lambda *_: None)
    for width, height in SIZES[:3]:
        wanted = request(tmp_path, width=width, height=height, steps=1)
        assert len(list(model.generate(wanted, Quiet()))) == 1
    assert model._pipe.dit.pos_embed.rope_cache == {}
