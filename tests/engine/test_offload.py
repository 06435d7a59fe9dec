"""Both ways to keep the weights, streamed and DiffSynth's own, draw the same picture."""

from __future__ import annotations

import pytest
from PIL import Image, ImageChops

from bot.engine.options import EngineOptions
from bot.engine.parent.process import EngineProcess
from bot.engine.protocol import Step
from tests.engine.kit import draw_well, request

pytestmark = pytest.mark.engine


async def drawn(folder, **options):
    folder.mkdir()
    engine = EngineProcess("tiny", options=EngineOptions(folder, **options))
    wanted = request(folder, "a lighthouse", negative_prompt="fog", steps=4, seeds=(3, 4))
    try:
        events = await draw_well(engine, wanted)
    finally:
        await engine.close()
    steps = [event for event in events if isinstance(event, Step)]
    return steps, [Image.open(folder / f"{i}.png") for i in range(2)]


def largest_difference(one, other):
    return max(high for _, high in ImageChops.difference(one, other).getextrema())


@pytest.mark.slow
async def test_streamed_and_stock(tmp_path):
    stock_steps, stock = await drawn(tmp_path / "stock", offload="stock")
    steps, streamed = await drawn(tmp_path / "streamed", precision="bf16")
    # DiffSynth draws one picture after the other; ours are one batch.
    assert stock_steps[-1] == Step(8, 8)
    assert steps[-1] == Step(4, 4)
    for one, other in zip(stock, streamed, strict=True):
        assert largest_difference(one, other) <= 2
    assert largest_difference(*streamed) > 50
