"""Another program takes and gives back the card's memory: it costs blocks, never a job."""

from __future__ import annotations

import pytest
import torch

from bot.engine.stream.budget import GIB, Work
from bot.engine.stream.denoise import DenoiseInputs, denoise
from bot.engine.stream.layout import Precision
from bot.engine.stream.step_times import StepTimes
from bot.errors import EngineError, EngineErrorKind
from tests.stream.kit import (
    HEIGHT,
    PROMPTS,
    WIDTH,
    budget_for,
    predicted,
    prepared,
    streamed,
)


@pytest.fixture
def dit():
    made = streamed(Precision.FP8)
    made.residency.adapt(GIB * 64, 0)
    return made


LAYERS = 6


def test_blocks_that_find_no_room_when_they_come_back_cost_no_job(dit, monkeypatch, caplog):
    plain = predicted(dit)
    dit.residency.give_way()

    def full(_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(dit.weights._streamer, "promote", full)
        assert torch.equal(predicted(dit), plain)
        assert len(dit.resident) == LAYERS - 1
        assert "another program may hold it" in caplog.text
    assert torch.equal(predicted(dit), plain)
    assert len(dit.resident) == LAYERS  # what was learned is forgotten


@pytest.mark.slow
@pytest.mark.parametrize("where", ["table", "texts", "_predict", "use"])
def test_no_room_at_any_point_costs_blocks(dit, monkeypatch, where):
    plain = predicted(dit)
    network = dit.network
    owners = {"table": network.modulation, "texts": network.layers, "_predict": dit}
    owner = owners.get(where, dit._loras)
    real, refusals = getattr(owner, where), [torch.OutOfMemoryError("CUDA out of memory")] * 2

    def refusing(*arguments, **options):
        if refusals:
            raise refusals.pop()
        return real(*arguments, **options)

    monkeypatch.setattr(owner, where, refusing)
    if where == "use":
        dit.use(())
        assert len(dit.resident) == LAYERS - 2
    assert torch.equal(predicted(dit), plain)
    assert refusals == []
    expected = LAYERS if where == "use" else LAYERS - 2
    assert len(dit.resident) == expected
    predicted(dit)
    assert len(dit.resident) == LAYERS


def test_a_card_that_is_full_fails_the_job_and_no_other(dit, monkeypatch):
    real = dit.network.modulation.table

    def refusing(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(dit.network.modulation, "table", refusing)
    with pytest.raises(torch.OutOfMemoryError):
        prepared(dit)
    assert dit.resident == frozenset()
    monkeypatch.setattr(dit.network.modulation, "table", real)
    predicted(dit)
    assert len(dit.resident) == LAYERS


def test_a_smaller_budget_is_followed_at_once_and_a_larger_one_at_the_next_picture(dit):
    plain = predicted(dit)
    tight = budget_for(dit, 3)
    dit.configure(64 * GIB, Precision.FP8, compiled=False)
    dit.residency.adapt(tight, 0)
    assert len(dit.resident) == 3
    dit.residency.adapt(tight + GIB // 8, 0)  # too little to move blocks for
    assert dit.settings.budget == tight
    dit.residency.adapt(64 * GIB, 0)
    assert len(dit.resident) == 3
    assert torch.equal(predicted(dit), plain)
    assert len(dit.resident) == LAYERS


def test_the_sentence_names_the_program_that_holds_the_card(dit):
    dit.residency.adapt(1000, 9 * GIB)
    assert dit.resident == frozenset()
    with pytest.raises(EngineError) as caught:
        prepared(dit)
    assert caught.value.kind is EngineErrorKind.OUT_OF_MEMORY
    assert "Other programs hold 9.0 GiB of the card" in caught.value.sentence
    dit.residency.adapt(GIB, 0)
    dit.residency.adapt(1000, 0)
    with pytest.raises(EngineError) as caught:
        prepared(dit)
    assert "a smaller picture fits" in caught.value.sentence


@pytest.mark.slow
def test_a_driver_that_pages_in_silence_is_noticed(dit, monkeypatch, caplog):
    inputs = DenoiseInputs(PROMPTS[0], PROMPTS[1], (1,), WIDTH, HEIGHT, steps=6)
    clock = iter([0.0, 1.0] + [0.0, 1.2] + [0.0, 9.0] * 2 + [0.0, 1.1] * 100)
    monkeypatch.setattr("bot.engine.stream.denoise.time.perf_counter", lambda: next(clock))
    denoise(dit, inputs, on_step=lambda *_: None)
    assert len(dit.resident) == LAYERS - 2
    assert caplog.text.count("took 9.0 s instead of 1.0 s") == 2
    counts = []
    for _ in range(3):
        denoise(dit, inputs, on_step=lambda *_: None)
        counts.append(len(dit.resident))
    assert counts == [LAYERS - 1, LAYERS, LAYERS]  # they come back by and by


def test_without_a_card_a_slow_step_says_nothing_of_one(caplog):
    dit = streamed(Precision.FP8)
    predicted(dit)
    for seconds in (0.5, 0.5, 9.0):
        dit.note_step(Work(256, 256), seconds)
    assert len(dit.resident) == LAYERS
    assert caplog.text == ""


def test_the_first_steps_of_another_work_are_not_slow():
    times = StepTimes()
    small, large = Work(512, 512), Work(2048, 2048)
    assert [times.is_slow(small, s) for s in (9.0, 0.2, 0.9, 1.1, 1.3)] == [False] * 4 + [True]
    assert not times.is_slow(large, 40.0)
    assert not times.is_slow(large, 100.0)
    assert times.is_slow(large, 201.0)
