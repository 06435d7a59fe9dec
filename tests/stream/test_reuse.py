"""Reuse of predictions: which steps are spared, and that all else holds with it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from bot.engine.stream.budget import Work
from bot.engine.stream.denoise import DenoiseInputs, denoise, schedule
from bot.engine.stream.layout import Precision
from bot.engine.stream.reuse import Reuse
from bot.engine.stream.transformer import StreamedDiT
from tests.stream.kit import HEIGHT, PROMPTS, WIDTH, budget_for, streamed

STEPS = 16
# Random networks change much from step to step; the pictures' changes lie around this one.
THRESHOLD = 0.335
SEEDS = (5, 6, 7)


class Counted:
    """What the transformer was asked to compute: for each step the number of pictures."""

    def __init__(self, dit: StreamedDiT, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: dict[int, int] = {}
        predict = dit.predict

        def counted(generation: Any, step: int, latents: torch.Tensor, *args: Any, **options: Any):
            self.steps[step] = len(latents)
            return predict(generation, step, latents, *args, **options)

        monkeypatch.setattr(dit, "predict", counted)


def drawing(**changes: Any) -> DenoiseInputs:
    values: dict[str, Any] = {
        "positive": PROMPTS[0],
        "negative": PROMPTS[1],
        "seeds": SEEDS[:1],
        "width": WIDTH,
        "height": HEIGHT,
        "steps": STEPS,
        "reuse": THRESHOLD,
    }
    return DenoiseInputs(**(values | changes))


def test_steps_are_spared_and_the_first_and_the_last_never(monkeypatch):
    dit = streamed()
    counted = Counted(dit, monkeypatch)
    told: list[int] = []
    shown: list[int] = []
    spared = denoise(
        dit,
        drawing(reuse=1.0),
        on_step=lambda step, _total: told.append(step),
        on_latents=lambda step, _latents: shown.append(step),
    )
    assert told == shown == list(range(1, STEPS + 1))
    assert {0, 1, 2, 3, STEPS - 1} <= counted.steps.keys()
    gaps = sorted(counted.steps)
    assert max(b - a for a, b in pairwise(gaps)) == 4
    whole = denoise(dit, drawing(reuse=0.0))
    assert not torch.equal(spared, whole)


@pytest.mark.slow
def test_a_lower_threshold_spares_less_and_stays_nearer(monkeypatch):
    dit = streamed()
    whole = denoise(dit, drawing(reuse=0.0))
    found = []
    for threshold in (0.3, 0.345, 0.5):
        counted = Counted(dit, monkeypatch)
        error = (denoise(dit, drawing(reuse=threshold)) - whole).norm().item()
        found.append((len(counted.steps), error))
    assert [count for count, _ in found] == sorted((count for count, _ in found), reverse=True)
    assert [error for _, error in found] == sorted(error for _, error in found)
    assert found[0][0] > found[1][0] > found[2][0]


@pytest.mark.slow
def test_without_it_each_step_is_computed_and_nothing_is_another_number(monkeypatch):
    dit = streamed()
    inputs = drawing(reuse=0.0, seeds=SEEDS)
    scheduler = schedule(inputs)
    counted = Counted(dit, monkeypatch)
    whole = denoise(dit, inputs)
    assert counted.steps == dict.fromkeys(range(STEPS), len(SEEDS))
    reuse = Reuse(0.0, scheduler.sigmas, 2)
    some = torch.randn(2, 16, 4, 4)
    for step in range(STEPS):
        assert reuse.due(step) == [0, 1]
        reuse.note(step, [0, 1], some)
        assert torch.equal(reuse.predictions(), some)
    assert reuse.computed == 2 * STEPS
    # So small a threshold never lets a prediction pass, and it changes no bit of it.
    assert torch.equal(denoise(dit, drawing(reuse=1e-9, seeds=SEEDS)), whole)


@pytest.mark.slow
def test_each_picture_of_a_batch_is_the_one_drawn_alone(monkeypatch):
    dit = streamed()
    alone = []
    spared: list[set[int]] = []
    for seed in SEEDS:
        counted = Counted(dit, monkeypatch)
        alone.append(denoise(dit, drawing(seeds=(seed,))))
        spared.append(set(range(STEPS)) - counted.steps.keys())
    counted = Counted(dit, monkeypatch)
    batch = denoise(dit, drawing(seeds=SEEDS))
    assert torch.equal(batch, torch.cat(alone))
    assert all(spared)
    # The pictures differ in which steps they are spared; else this would show nothing.
    assert len({frozenset(steps) for steps in spared}) > 1
    assert set(counted.steps.values()) > {len(SEEDS)}


@pytest.mark.slow
def test_streamed_blocks_draw_the_same(monkeypatch):
    dit = streamed(usual=Work(WIDTH, HEIGHT, len(SEEDS), (11, 5)))
    resident = denoise(dit, drawing(seeds=SEEDS))
    dit.configure(budget_for(dit, 1), Precision.PLAIN, compiled=False)
    counted = Counted(dit, monkeypatch)
    assert torch.equal(denoise(dit, drawing(seeds=SEEDS)), resident)
    assert len(dit.resident) < dit.geometry.layers
    assert set(counted.steps.values()) > {len(SEEDS)}


@pytest.mark.slow
def test_from_a_picture_and_without_guidance(monkeypatch):
    dit = streamed()
    source = torch.randn(1, 16, HEIGHT // 8, WIDTH // 8)
    for changes in ({"source": source, "strength": 0.6}, {"guidance": 1.0}):
        counted = Counted(dit, monkeypatch)
        spared = denoise(dit, drawing(reuse=0.5, **changes))
        assert len(counted.steps) < STEPS
        whole = denoise(dit, drawing(reuse=0.0, **changes))
        assert 0 < (spared - whole).norm() < 0.3 * whole.norm()


class Cancelled(Exception):
    pass


def test_a_cancel_ends_it_at_a_spared_step_too(monkeypatch):
    dit = streamed()
    counted = Counted(dit, monkeypatch)
    denoise(dit, drawing(reuse=1.0))
    spared = min(set(range(STEPS)) - counted.steps.keys())
    counted.steps.clear()

    def cancel(step: int, _total: int) -> None:
        if step == spared + 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        denoise(dit, drawing(reuse=1.0), on_step=cancel)
    assert max(counted.steps) < spared


@pytest.mark.parametrize("threshold", [THRESHOLD, 1.0])
def test_a_spared_step_says_nothing_about_the_pace(monkeypatch, threshold):
    dit = streamed()
    counted = Counted(dit, monkeypatch)
    noted: list[int] = []
    monkeypatch.setattr(dit, "note_step", lambda work, _seconds: noted.append(work.pictures))
    denoise(dit, drawing(seeds=SEEDS, reuse=threshold), on_step=lambda _step, _total: None)
    assert sum(noted) < STEPS * len(SEEDS)
    assert noted == [counted.steps[step] for step in sorted(counted.steps)]
