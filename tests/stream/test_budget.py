from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.request import SIZE_MIN
from bot.engine.child.references import drawn_sizes
from bot.engine.stream.budget import GIB, Fixed, Work, activation_bytes, plan, spread
from bot.engine.stream.too_large import LEAST_SIDE, for_others
from bot.errors import EngineError
from bot.lab.step import random_weights

BLOCK = 24 * 3072 * 3072
FIXED = Fixed(block=BLOCK, slot=BLOCK, scratch=0, small=150 * 2**20)


def planned(budget_gib, work=None, *, sizes=None, **changes):
    fixed = Fixed(**{name: changes.get(name, getattr(FIXED, name)) for name in FIXED.__slots__})
    work = work or Work(1344, 768)
    return plan(
        work, random_weights.FULL, fixed, int(budget_gib * GIB), 2, compiled=True, sizes=sizes
    )


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


def test_references_take_room_and_decide_whether_branches_go_together():
    alone, one = Work(1024, 1024), Work(1024, 1024, references=((1024, 1024),))
    assert (one.target_tokens, one.reference_tokens, one.image_tokens) == (4096, 4096, 8192)
    assert one.tokens == alone.tokens + 2 * 4096
    assert (alone.joint, one.joint) == (True, False)
    counts = [
        len(planned(8, Work(2048, 2048, references=((1024, 1024),) * n)).resident) for n in range(4)
    ]
    assert counts == sorted(set(counts), reverse=True)
    # As much as a picture of as many tokens: so they are counted.
    larger, longer = Work(1024, 2048), Work(1024, 1024, references=((1024, 1024),))
    needed = [activation_bytes(w, random_weights.FULL, 2, compiled=True) for w in (larger, longer)]
    assert needed[0] == needed[1]


def refused(budget_gib, work, sizes=None):
    with pytest.raises(EngineError) as caught:
        planned(budget_gib, work, sizes=sizes)
    return caught.value


def between(work, fitting):
    """A budget in GiB that has room for `fitting` and none for `work`."""

    def needed(some):
        return activation_bytes(some, random_weights.FULL, 2, compiled=True)

    fixed = planned(4, Work(256, 256)).overhead - int(0.01 * 4 * GIB)
    return (fixed + (needed(work) + needed(fitting)) / 2) / 0.99 / GIB


@pytest.mark.parametrize(
    ("work", "fitting", "told"),
    [
        (
            Work(1344, 768, references=((2048, 2048),) * 3),
            Work(1344, 768, references=((2048, 2048),) * 2),
            "at most 2 of these pictures",
        ),
        (
            Work(2048, 2048, references=((1024, 1024),)),
            Work(1920, 1920, references=((1024, 1024),)),
            "1 x 1920x1920 fits",
        ),
    ],
)
def test_references_without_room_are_refused_with_what_fits(work, fitting, told):
    budget = between(work, fitting)
    error = refused(budget, work)
    assert told in str(error.sentence)
    assert "with reference pictures of" in str(error.sentence)
    planned(budget, fitting)
    shared = str(for_others(error, 3 * GIB).sentence)
    assert told in shared
    assert "Other programs hold 3.0 GiB" in shared


@pytest.mark.parametrize("references", [(), ((1024, 1024),)])
def test_a_batch_without_room_is_told_how_many_pictures_at_once_have(references):
    work, fitting = (Work(2048, 2048, pictures, references=references) for pictures in (4, 2))
    budget = between(replace(work, pictures=3), fitting)
    error = refused(budget, work)
    assert error.values["fewer"] == "2"
    for one in (error, for_others(error, 3 * GIB)):
        assert "{fewer} x {size} fits" in str(one.template)
        assert "4 x 2048x2048" in str(one.sentence)
        assert "2 x 2048x2048 fits" in str(one.sentence)
        assert ("reference pictures" in str(one.sentence)) == bool(references)
    planned(budget, fitting)


def test_no_size_is_named_that_a_request_may_not_ask_for():
    assert LEAST_SIDE == SIZE_MIN
    work = Work(640, 320, references=((1024, 1024),))
    larger, least, lower = (
        replace(work, width=width, height=height)
        for width, height in ((576, 288), (544, 256), (512, 224))
    )
    assert refused(between(larger, least), work).values["smaller"] == "544x256"
    error = refused(between(least, lower), work)
    assert "fewer and smaller pictures fit" in str(error.sentence)


def test_references_that_follow_what_is_drawn_are_smaller_where_it_is():
    work = Work(2048, 2048, references=((2048, 2048),))
    fitting = Work(1216, 1216, references=((1216, 1216),))
    budget = between(Work(1312, 1312, references=((1312, 1312),)), fitting)
    assert "fewer and smaller pictures fit" in str(refused(budget, work).sentence)
    assert refused(budget, work, drawn_sizes).values["smaller"] == "1216x1216"
    planned(budget, fitting)


def test_references_for_which_nothing_has_room_are_refused_too():
    error = refused(0.5, Work(1344, 768, references=((1024, 1024),)))
    assert "fewer and smaller pictures fit" in str(error.sentence)
    assert "with reference pictures of 1024x1024" in str(for_others(error, GIB).sentence)


def test_evicting_leaves_holes_that_cost_more_blocks():
    fixed = Fixed(BLOCK, BLOCK, 0, 0, hole=24 * 2**20)
    work, budget = Work(1344, 768), 8 * GIB
    fresh = plan(work, random_weights.FULL, fixed, budget, 2, compiled=True)
    evicting = plan(work, random_weights.FULL, fixed, budget, 2, compiled=True, most=60)
    lost = 60 - len(evicting.resident)
    used = evicting.working + evicting.overhead + len(evicting.resident) * BLOCK
    assert len(evicting.resident) < len(fresh.resident)
    assert used + lost * fixed.hole <= budget
