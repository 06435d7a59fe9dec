"""Captions: the same facts in varied English and Chinese."""

from __future__ import annotations

import random
from typing import Final

from bot.lab.tiny.train.scenes.letters import CHINESE, FACES
from bot.lab.tiny.train.scenes.palette import COLOURS
from bot.lab.tiny.train.scenes.plan import Plan, Subject, chance
from bot.lab.tiny.train.scenes.shapes import SHAPES
from bot.lab.tiny.train.scenes.things import THINGS

_CHINESE_SHARE: Final = 0.35
_NUMBERS: Final = {1: ("one",), 2: ("two", "2"), 3: ("three", "3"), 4: ("four", "4")}
_NUMBERS_ZH: Final = {1: "一", 2: "两", 3: "三", 4: "四"}
_SIZES_ZH: Final = {"small": "小", "big": "大"}
_STYLES: Final = {
    "outline": ("outline drawing", "line art", "线条画"),
    "pixel": ("pixel art", "pixel art", "像素画"),
    "pastel": ("pastel colors", "soft pastel", "粉彩画"),
}
_PLACES: Final = {
    "left": ("on the left", "左边"),
    "right": ("on the right", "右边"),
    "top": ("at the top", "上方"),
    "bottom": ("at the bottom", "下方"),
}
_RELATIONS: Final = {
    "left": (("to the left of", "left of"), "左边"),
    "right": (("to the right of", "right of"), "右边"),
    "above": (("above", "over"), "上面"),
    "below": (("below", "under"), "下面"),
    "inside": (("inside", "in"), "里面"),
}


def relation_names(relation: str, *, chinese: bool) -> tuple[str, ...]:
    """Return the words for a relation."""
    english, other = _RELATIONS[relation]
    return (other,) if chinese else english


def stated(plan: Plan, *, chinese: bool) -> tuple[tuple[str, ...], ...]:
    """Return what a caption says of a plan besides forms, colours and texts: one of each's words.

    That is its size, place, style and font, as far as they are said.
    """
    found: list[tuple[str, ...]] = []
    if plan.size:
        found.append((_SIZES_ZH[plan.size] if chinese else plan.size,))
    if plan.place:
        found.append((_PLACES[plan.place][chinese],))
    if plan.style in _STYLES:
        *english, other = _STYLES[plan.style]
        found.append((other,) if chinese else tuple(english))
    if plan.face and "face" not in plan.unsaid:
        face = FACES[plan.face]
        found.append((face.chinese if chinese else face.english,))
    return tuple(found)


def _usual(rng: random.Random, names: tuple[str, ...]) -> str:
    """Return the first name mostly."""
    return names[0] if chance(rng, 0.85) else rng.choice(names)


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _english_noun(rng: random.Random, plan: Plan, subject: Subject, *, several: bool) -> str:
    if subject.form in THINGS:
        noun = THINGS[subject.form].english
    else:
        names = SHAPES[subject.form].english
        pair = names[0] if chance(rng, 0.85) else rng.choice(names)
        noun = pair[several]
    if "colour" not in plan.unsaid:
        noun = f"{_usual(rng, COLOURS[subject.colour].english)} {noun}"
    return f"{plan.size} {noun}" if plan.size else noun


def _english_shapes(rng: random.Random, plan: Plan) -> str:
    first = plan.subjects[0]
    noun = _english_noun(rng, plan, first, several=plan.count > 1)
    if plan.count > 1:
        return f"{rng.choice(_NUMBERS[plan.count])} {noun}"
    if first.form == "night":
        moon = _usual(rng, COLOURS[first.colour].english)
        full = (f"a night sky with a {moon} moon", f"night sky, {moon} moon and stars")
        return "night sky" if "colour" in plan.unsaid else rng.choice(full)
    subject = _article(noun) if chance(rng, 0.75) else noun
    if plan.place:
        return f"{subject} {_PLACES[plan.place][0]}"
    if plan.relation:
        other = _article(_english_noun(rng, plan, plan.subjects[1], several=False))
        return f"{subject} {_usual(rng, _RELATIONS[plan.relation][0])} {other}"
    return subject


def _english_text(rng: random.Random, plan: Plan) -> str:
    text = f'"{plan.text}"' if chance(rng, 0.3) else plan.text
    face = "" if "face" in plan.unsaid else FACES[plan.face].english
    colour = _usual(rng, COLOURS[plan.colour].english) if "colour" not in plan.unsaid else ""
    how = " ".join(filter(None, (colour, face)))
    if plan.kind == "hanzi":
        what = rng.choice(("the Chinese character", "the character"))
        if len(plan.text) > 1:
            what = rng.choice(("the Chinese word", "the characters"))
        ways = [f"{what} {text} in {how}", f"{text} in {how}", f"{how} {text}"]
        return rng.choice(ways) if how else f"{what} {text}"
    if len(plan.text) == 1:
        what = "digit" if plan.text.isdigit() else "letter"
        ways = [f"the {what} {text} in {how}", f"{_article(f'{how} {what} {text}')}"]
        return rng.choice(ways) if how else f"the {what} {text}"
    if not how:
        return rng.choice((f"the word {text}", f"the text {text}", f"{text} in letters"))
    ways = [f"{text} in {how} letters", f"the word {text} in {how}", f"the text {text} in {how}"]
    return rng.choice((*ways, f"{how} text {text}", f"a sign that says {text} in {how}"))


def in_english(rng: random.Random, plan: Plan) -> str:
    """Return one English phrasing of what the plan says."""
    text = _english_text(rng, plan) if plan.text else _english_shapes(rng, plan)
    if plan.ground and "ground" not in plan.unsaid:
        first, *rest = (_usual(rng, COLOURS[name].english) for name in plan.ground)
        if rest:
            ground = rng.choice(
                (f"{first} to {rest[0]} gradient", f"gradient from {first} to {rest[0]}")
            )
            ways = (f"{text} on a {ground}", f"{text}, {ground}")
        else:
            on = f"{text} on {_article(first)} background"
            ways = (on, on, f"{text}, {first} background", f"{text} on {first}")
        text = rng.choice(ways)
    if plan.style in _STYLES:
        named = _STYLES[plan.style]
        before = f"{named[0]} of {text}" if plan.style != "pastel" else f"{text} in {named[0]}"
        text = rng.choice((before, f"{text}, {named[0]}", f"{text}, {named[1]} style"))
    return text


def _chinese_noun(rng: random.Random, plan: Plan, subject: Subject) -> str:
    thing = THINGS.get(subject.form)
    noun = thing.chinese if thing else _usual(rng, SHAPES[subject.form].chinese)
    if plan.size:
        noun = f"{_SIZES_ZH[plan.size]}{noun}"
    if "colour" in plan.unsaid:
        return noun
    colour = _usual(rng, COLOURS[subject.colour].chinese)
    return f"{colour}的{noun}" if thing or chance(rng, 0.4) else f"{colour}{noun}"


def _chinese_shapes(rng: random.Random, plan: Plan) -> str:
    first = plan.subjects[0]
    noun = _chinese_noun(rng, plan, first)
    source = THINGS.get(first.form) or SHAPES[first.form]
    if plan.count > 1:
        return f"{_NUMBERS_ZH[plan.count]}{source.measure}{noun}"
    if first.form == "night":
        moon = _usual(rng, COLOURS[first.colour].chinese)
        return "夜空" if "colour" in plan.unsaid else f"夜空中{moon}的月亮"
    if plan.relation:
        other = _chinese_noun(rng, plan, plan.subjects[1])
        where = _RELATIONS[plan.relation][1]
        return rng.choice((f"{other}{where}的{noun}", f"{noun}在{other}的{where}"))
    if plan.place:
        where = _PLACES[plan.place][1]
        return rng.choice((f"{where}的{noun}", f"{noun}在{where}"))
    return f"一{source.measure}{noun}" if chance(rng, 0.35) else noun


def _chinese_text(rng: random.Random, plan: Plan) -> str:
    text = f"“{plan.text}”" if chance(rng, 0.4) else plan.text
    face = "" if "face" in plan.unsaid else FACES[plan.face].chinese
    what = f"{face}字" if plan.face in CHINESE else f"{face}字母"
    if plan.text.isdigit():
        what = f"{face}数字"
    if "colour" in plan.unsaid:
        return f"{what}{text}"
    colour = _usual(rng, COLOURS[plan.colour].chinese)
    ways = (f"{colour}的{what}{text}", f"{colour}{what}{text}", f"用{colour}写的{what}{text}")
    return rng.choice(ways)


def in_chinese(rng: random.Random, plan: Plan) -> str:
    """Return one Chinese phrasing of what the plan says."""
    text = _chinese_text(rng, plan) if plan.text else _chinese_shapes(rng, plan)
    if plan.ground and "ground" not in plan.unsaid:
        first, *rest = (_usual(rng, COLOURS[name].chinese) for name in plan.ground)
        ground = f"{first}到{rest[0]}渐变" if rest else first
        text = rng.choice(
            (f"{ground}背景上的{text}", f"{text},{ground}背景", f"{text},背景是{ground}")
        )
    if plan.style in _STYLES:
        text = f"{text},{_STYLES[plan.style][2]}"
    return text


def caption(rng: random.Random, plan: Plan) -> str:
    """Return one phrasing of what the plan says."""
    return in_chinese(rng, plan) if chance(rng, _CHINESE_SHARE) else in_english(rng, plan)
