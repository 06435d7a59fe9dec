"""Held-out scenes to describe and short prompts to expand, and verdicts on what was written."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final

from PIL import Image

from bot.lab.tiny.train.scenes import captions, language
from bot.lab.tiny.train.scenes.palette import COLOURS
from bot.lab.tiny.train.scenes.plan import Plan, draw_plan
from bot.lab.tiny.train.scenes.scene import paint
from bot.lab.tiny.train.scenes.shapes import SHAPES
from bot.lab.tiny.train.scenes.things import THINGS

BARS: Final = {"describe": 90.0, "expand": 95.0}
"""Least percentage of answers in which every attribute is right."""
_SEED: Final = 20250807
_KINDS: Final = ("shape", "place", "count", "relation", "thing")
_CHINESE_SHARE: Final = 0.35
_NUMBERS: Final = {2: ("two", "两"), 3: ("three", "三"), 4: ("four", "四")}


@dataclass(frozen=True)
class Question:
    """What is asked, of a picture or without one, and the plan that the answer has to state."""

    user: str
    plan: Plan
    chinese: bool
    picture: Image.Image | None = None


def held_out_scenes(count: int) -> list[Question]:
    """Return held-out scenes to be described: shapes, counts, relations and things."""
    rng = random.Random(_SEED)  # noqa: S311 - pictures, not secrets
    found: list[Question] = []
    for index in range(count):
        plan = draw_plan(rng, holdout=True, kind=_KINDS[index % len(_KINDS)])
        chinese = rng.random() < _CHINESE_SHARE
        request = language.DESCRIBE[chinese]
        found.append(Question(request, plan, chinese, paint(rng, plan)))
    return found


def held_out_shorts(count: int) -> list[Question]:
    """Return short prompts of held-out combinations and texts; their plans are the short ones."""
    rng = random.Random(_SEED + 1)  # noqa: S311 - prompts, not secrets
    found: list[Question] = []
    while len(found) < count:
        plan = language.shortened(rng, draw_plan(rng, holdout=True))
        chinese = rng.random() < _CHINESE_SHARE
        write = captions.in_chinese if chinese else captions.in_english
        found.append(Question(language.EXPAND[chinese] + write(rng, plan), plan, chinese))
    return found


def judge_answer(question: Question, answer: str) -> bool:
    """Tell whether an answer states all that a plan says: forms, colours, count, ground, text.

    Colours are compared as the list of all that are named, so that a wrong one counts as wrong and
    so do two that changed places. Of a picture, "A left of B" and "B right of A" are both true. Of
    an expanded prompt a size, place, style, font or relation is looked for as well, where the short
    one names it; what that left open may be anything.
    """
    plan, chinese = question.plan, question.chinese
    if question.picture is None:
        ordered = not plan.relation or _in_order(plan, answer, chinese)
        kept = captions.stated(plan, chinese=chinese)
        said = all(any(word in answer for word in words) for words in kept)
        return ordered and said and _states(plan, answer, chinese)
    if plan.relation in language.OPPOSITE:
        return any(
            _states(one, answer, chinese) and _in_order(one, answer, chinese)
            for one in (plan, language.turned(plan))
        )
    return _states(plan, answer, chinese)


def _states(plan: Plan, answer: str, chinese: bool) -> bool:
    said = replace(plan, unsaid=frozenset())
    forms = [one.form for one in plan.subjects]
    if any(not _has_form(answer, form, chinese) for form in forms):
        return False
    number = _NUMBERS[plan.count][chinese] if plan.count > 1 else ""
    if number and number not in (answer if chinese else answer.split()):
        return False
    if plan.text and plan.text not in answer:
        return False
    if plan.unsaid & {"colour", "ground"}:
        wanted = [] if "colour" in plan.unsaid else [one.colour for one in plan.subjects]
        wanted += [plan.colour] if plan.colour and "colour" not in plan.unsaid else []
        wanted += [] if "ground" in plan.unsaid else list(plan.ground)
        return set(wanted) <= set(_colours(answer, chinese))
    whole = language.full_caption(said, chinese=chinese)
    return _colours(answer, chinese) == _colours(whole, chinese)


def _has_form(answer: str, form: str, chinese: bool) -> bool:
    return any(name in answer for name in _names(form, chinese))


def _names(form: str, chinese: bool) -> tuple[str, ...]:
    thing = THINGS.get(form)
    if thing is not None:
        return (thing.chinese if chinese else thing.english,)
    shape = SHAPES[form]
    return shape.chinese if chinese else tuple(name for pair in shape.english for name in pair)


def _in_order(plan: Plan, answer: str, chinese: bool) -> bool:
    """Tell whether an answer relates a plan's two forms as it does; in Chinese the second leads."""
    first, second = (_names(one.form, chinese) for one in plan.subjects)
    if chinese:
        first, second = second, first
    words = captions.relation_names(plan.relation, chinese=chinese)
    places = [answer.find(word) for word in words if word in answer]
    return any(
        any(name in answer[:place] for name in first)
        and any(name in answer[place:] for name in second)
        for place in places
    )


def _colours(text: str, chinese: bool) -> list[str]:
    """Return the colours that a text names, in its order."""
    found: list[tuple[int, str]] = []
    for name, colour in COLOURS.items():
        for word in colour.chinese[:1] if chinese else colour.english:
            padded = text if chinese else f" {text} ".replace(",", " ")
            start = padded.find(word if chinese else f" {word} ")
            while start >= 0:
                found.append((start, name))
                start = padded.find(word if chinese else f" {word} ", start + 1)
    return [name for _, name in sorted(found)]
