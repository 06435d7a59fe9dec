from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.engine.stream.budget import GIB, Fixed, Work, activation_bytes, plan, spread
from bot.errors import EngineError
from bot.lab.step import random_weights

BLOCK = 24 * 3072 * 3072
FIXED = Fixed(block=BLOCK, slot=BLOCK, scratch=0, small=150 * 2**20)


def planned(budget_gib, work=None, **changes):
    fixed = Fixed(**{name: changes.get(name, getattr(FIXED, name)) for name in FIXED.__slots__})
    work = work or Work(1344, 768)
    return plan(work, random_weights.FULL, fixed, int(budget_gib * GIB), 2, compiled=True)


@given(st.integers(0, 60), st.integers(1, 60))
def test_streamed_blocks_are_spread_evenly(resident, layers):
    resident = min(resident, layers)
    chosen = spread(resident, layers)
    assert len(chosen) == resident
    streamed = [i for i in range(layers) if i not in chosen]
    if streamed:
        around = [*streamed[1:], streamed[0] + layers]
        gaps = [after - before for before, after in zip(streamed, around, strict=True)]
        assert max(gaps) - min(gaps) <= 1


@given(st.floats(3.0, 40.0), st.sampled_from([256, 1024, 1344, 2048]), st.integers(1, 4))
def test_a_plan_never_exceeds_its_budget(budget, side, pictures):
    work = Work(side, side, pictures)
    try:
        made = planned(budget, work)
    except EngineError:
        return
    used = made.working + made.overhead + len(made.resident) * BLOCK
    assert used <= budget * GIB
    if len(made.resident) < 60:
        assert used + BLOCK > budget * GIB  # and wastes less than a block


def test_more_room_keeps_more_and_larger_work_keeps_less():
    counts = [len(planned(gib).resident) for gib in (4, 8, 12, 14, 16, 24)]
    assert counts == sorted(counts)
    assert counts[0] >= 8
    assert counts[3] >= 50
    assert counts[-1] == 60
    assert len(planned(8, Work(2048, 2048, 4)).resident) < counts[1]
    assert len(planned(8, others=GIB).resident) < counts[1]
    assert len(planned(8, scratch=2 * BLOCK).resident) == counts[1] - 2


def test_the_largest_batch_fits_four_gib():
    assert planned(4, Work(2048, 2048, 4), scratch=2 * BLOCK).resident is not None


def test_no_budget_keeps_everything():
    made = plan(Work(1344, 768), random_weights.FULL, FIXED, None, 2, compiled=False)
    assert len(made.resident) == 60


def test_other_networks_share_the_room_of_activations():
    own = activation_bytes(Work(512, 512), random_weights.FULL, 2, compiled=True)
    small = planned(8, Work(512, 512))
    assert small.working == own
    assert planned(8, Work(512, 512), others_working=GIB).working == GIB


def test_a_budget_for_nothing_is_refused_in_a_sentence():
    with pytest.raises(EngineError) as caught:
        planned(1.0, Work(2048, 2048, 4))
    assert "4 x 2048x2048" in str(caught.value.sentence)


def test_evicting_leaves_holes_that_cost_more_blocks():
    fixed = Fixed(BLOCK, BLOCK, 0, 0, hole=24 * 2**20)
    work, budget = Work(1344, 768), 8 * GIB
    fresh = plan(work, random_weights.FULL, fixed, budget, 2, compiled=True)
    evicting = plan(work, random_weights.FULL, fixed, budget, 2, compiled=True, most=60)
    lost = 60 - len(evicting.resident)
    used = evicting.working + evicting.overhead + len(evicting.resident) * BLOCK
    assert len(evicting.resident) < len(fresh.resident)
    assert used + lost * fixed.hole <= budget
