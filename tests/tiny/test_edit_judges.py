"""The judges of edits and answers: right on what the renderer shows, wrong on anything else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bot.lab.tiny.evaluate import answers
from bot.lab.tiny.evaluate.changes import held_out_changes, judge_change, tally_changes
from bot.lab.tiny.train.scenes import captions, language
from bot.lab.tiny.train.scenes.edits import KINDS, PAIR_KINDS


def softened(image: Image.Image) -> Image.Image:
    """As a small model draws: a little blur, a little noise."""
    small = image.resize((144, 144), Image.Resampling.BICUBIC).resize((256, 256))
    noise = np.random.default_rng(0).normal(0, 4, (256, 256, 3))
    return Image.fromarray((np.asarray(small) + noise).clip(0, 255).astype(np.uint8))


def test_instructions_are_held_out_and_stay_the_same():
    cases = held_out_changes(60)
    assert cases == held_out_changes(60)
    assert all(case.change.held_out for case in cases)
    assert {case.change.kind for case in cases} == {*KINDS, *PAIR_KINDS}
    assert sum(ord(case.instruction[0]) > 127 for case in cases) > 5


def test_a_change_leaves_the_rest_as_it_was():
    for case in held_out_changes(24):
        [first, *_], after = case.change.pictures()
        different = (np.asarray(first) != np.asarray(after)).any(-1)
        assert different.any(), case.instruction
        if "background" not in case.change.kind:
            assert different.mean() < 0.5, case.instruction


@pytest.mark.slow
def test_judges_agree_with_targets_and_with_nothing_else():
    cases = held_out_changes(100)
    pictures = [case.change.pictures() for case in cases]
    own = tally_changes((c, softened(after)) for c, (_, after) in zip(cases, pictures, strict=True))
    assert sum(right for right, _ in own.shares.values()) >= 97
    same = tally_changes((c, before[0]) for c, (before, _) in zip(cases, pictures, strict=True))
    assert sum(right for right, _ in same.shares.values()) == 0
    assert same.untouched_db == 99
    others = zip(cases, [*pictures[7:], *pictures[:7]], strict=True)
    assert sum(judge_change(case, after).right for case, (_, after) in others) <= 3


def test_answers_are_judged():
    scenes, shorts = answers.held_out_scenes(100), answers.held_out_shorts(100)
    said = [language.full_caption(one.plan, chinese=one.chinese) for one in scenes]
    assert all(map(answers.judge_answer, scenes, said))
    turned = [one for one in scenes if one.plan.relation in language.OPPOSITE]
    other = [
        language.full_caption(language.turned(one.plan), chinese=one.chinese) for one in turned
    ]
    assert all(map(answers.judge_answer, turned, other))
    lies = [replace(one.plan, relation=language.OPPOSITE[one.plan.relation]) for one in turned]
    said_wrong = [
        language.full_caption(lie, chinese=one.chinese)
        for one, lie in zip(turned, lies, strict=True)
    ]
    assert len(turned) >= 10
    assert not any(map(answers.judge_answer, turned, said_wrong))
    assert sum(map(answers.judge_answer, scenes, [*said[5:], *said[:5]])) <= 5
    full = [
        language.full_caption(language.completed(one.plan), chinese=one.chinese) for one in shorts
    ]
    assert all(map(answers.judge_answer, shorts, full))
    assert sum(map(answers.judge_answer, shorts, [*full[5:], *full[:5]])) <= 5
    assert not any(answers.judge_answer(one, "") for one in scenes)
    for name in ("size", "place", "style", "face", "relation"):
        lost = [
            (one, text.replace(word, ""))
            for one, text in zip(shorts, full, strict=True)
            if (word := _word_of(one, name))
        ]
        assert lost
        assert not any(answers.judge_answer(one, text) for one, text in lost)


def _word_of(question, name: str) -> str | None:
    """Return the word that a full caption has for what a short prompt says, if it does."""
    plan, chinese = question.plan, question.chinese
    if not getattr(plan, name) or name in plan.unsaid or (plan.style == "flat" and name == "style"):
        return None
    if name == "relation":
        return captions.relation_names(plan.relation, chinese=chinese)[0]
    only = replace(
        plan, **{other: "" for other in ("size", "place", "style", "face") if other != name}
    )
    return captions.stated(only, chinese=chinese)[0][0]
