"""docs/cards.md is what the engine plans for each card, so that it cannot go stale."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bot.engine.options import EngineOptions
from bot.lab.step.random_weights import FULL
from bot.lab.trial.cards import CARDS, block_operations, expected, table
from bot.lab.trial.whole import Whole

PAGE = Path(__file__).parents[2] / "docs/cards.md"


@pytest.fixture(scope="module")
def whole() -> Whole:
    return Whole.of(EngineOptions(Path("models")), toy=False)


@pytest.mark.skipif(sys.platform == "win32", reason="the page is of Linux, which reserves less")
def test_the_table_is_the_engines_plan(whole):
    text = "\n".join(table(whole))
    assert f"\n\n{text}\n\n" in PAGE.read_text("utf-8"), (
        f"put this into docs/cards.md (python -m bot.lab.trial.cards prints it):\n{text}"
    )


def test_more_memory_streams_less_and_a_faster_card_draws_faster(whole):
    found = [expected(whole, card) for card in CARDS]
    assert [one.resident for one in found] == sorted(one.resident for one in found)
    for one in found:
        assert one.resident * whole.block_bytes < one.budget < one.card.gib * 2**30
        assert one.streamed == (one.blocks - one.resident) * whole.block_bytes
        assert one.fast_s[0] < one.standard_s[0] < one.standard_s[1]
        assert one.int8_s[0] < one.standard_s[0]
        assert one.int8_s[1] < one.standard_s[1]
    by_peak = sorted(found, key=lambda one: one.card.peak)
    seconds = [one.standard_s[1] for one in by_peak]
    assert seconds == sorted(seconds, reverse=True)


def test_the_same_operations_are_what_the_measured_card_took(whole):
    """Half of an H100's peak, as docs/performance.md has it: 0.272 s of 989 TFLOP/s."""
    operations = FULL.layers * block_operations(FULL, whole.usual)
    assert 0.49 < operations / 0.272 / 989e12 < 0.52
