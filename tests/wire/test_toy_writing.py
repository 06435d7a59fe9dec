"""Texts over the wire by the toy networks in the real engine child, as `make demo` has them."""

from __future__ import annotations

import pytest

from bot.engine.options import EngineOptions
from bot.engine.parent.process import EngineProcess
from bot.jobs.descriptions import read_description
from tests.wire.kit import staged, text_of
from tests.wire.test_edits import BOTH
from tests.wire.test_writing import labels, written

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(300)]


async def test_the_toy_rewrites_draws_and_describes(sandbox, tmp_path):
    options = EngineOptions(tmp_path, lora_path=tmp_path, models=("tiny-edit",), work_path=tmp_path)
    engine = EngineProcess("tiny", options=options)
    await engine.load()
    async with staged(sandbox, tmp_path / "data", engine, **BOTH) as stage:
        bob = sandbox.user("bob")
        shown = await written(
            await stage.imagine("bob", "a red cross", enhance="ask", aspect="1:1", steps=2)
        )
        assert "a red cross on a white background" in text_of(shown)
        first = await stage.outcome(await bob.press(shown, "Draw this"))
        job = await stage.job_of(first)
        assert (job.model, job.request.rewritten) == ("tiny", "a red cross on a white background")
        # Quoted text is kept, and drawn by another network.
        second = await stage.outcome(
            await stage.imagine("bob", 'the text "VNO"', enhance="always", aspect="1:1", steps=2)
        )
        job = await stage.job_of(second)
        kept = '"VNO" in black letters on a white background'
        assert (job.model, job.request.rewritten, job.request.unrewritten) == ("tiny", kept, "")
        assert job.timings["rewrite"] > 0
        described = await written(await bob.context_menu("general", "Describe this picture", first))
        text = (await stage.job_of(described)).text
        assert read_description(text).content in text_of(described)
        # The picture's own parameters come first, and name what it was drawn from.
        assert "a red cross on a white background" in text_of(described)
        assert labels(described)[0] == "Imagine this"
