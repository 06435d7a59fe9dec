"""What is asked about scenes and answered: descriptions, expanded prompts, short answers."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar

from bot.lab.tiny.train.scenes import captions
from bot.lab.tiny.train.scenes.palette import COLOURS
from bot.lab.tiny.train.scenes.plan import KINDS, Plan, chance, draw_plan
from bot.lab.tiny.train.scenes.shapes import SHAPES
from bot.lab.tiny.train.scenes.things import THINGS

_CHINESE_SHARE: Final = 0.35
_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
DESCRIBE: Final = ("Describe the picture.", "描述这张图片。")
"""The request in English and Chinese that most descriptions answer."""
EXPAND: Final = ("Expand the prompt: ", "扩写提示词:")
"""What stands before a short prompt that is to be expanded."""
_DESCRIBE: Final = (
    (DESCRIBE[0], "What is in the picture?", "Describe this image.", "What do you see?"),
    (DESCRIBE[1], "图片里有什么?", "描述图片。", "你看到了什么?"),
)
_NUMBERS: Final = (("one", "two", "three", "four"), ("一", "两", "三", "四"))
_USUAL_SHAPE: Final = "red"
OPPOSITE: Final = {"left": "right", "right": "left", "above": "below", "below": "above"}
"""Relations that can be told the other way round."""
_TOLD_TURNED: Final = ("right", "below")
"""Of two ways to tell a relation, a description has the one from the left or from above: what is
seen then leaves nothing to guess."""


class _Indexed(Protocol[_T_co]):
    """What `random.Random` chooses from."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: int, /) -> _T_co: ...


class _Usual(random.Random):
    """Chooses what comes first, always: the usual words."""

    def random(self) -> float:
        return 0.0

    def choice(self, seq: _Indexed[_T]) -> _T:
        return seq[0]


@dataclass(frozen=True)
class Exchange:
    """A user's turn and its answer; `task` is `describe`, `expand` or `ask`."""

    task: str
    user: str
    answer: str


def full_caption(plan: Plan, *, chinese: bool) -> str:
    """Return the one caption that says everything, in the usual words."""
    said = replace(plan, unsaid=frozenset())
    return captions.in_chinese(_Usual(), said) if chinese else captions.in_english(_Usual(), said)


def describe(rng: random.Random, plan: Plan) -> Exchange:
    """Return a request for a description of the picture, and what it shows."""
    chinese = chance(rng, _CHINESE_SHARE)
    ways = _DESCRIBE[chinese]
    request = ways[0] if chance(rng, 0.6) else rng.choice(ways)
    seen = turned(plan) if plan.relation in _TOLD_TURNED else plan
    return Exchange("describe", request, full_caption(seen, chinese=chinese))


def turned(plan: Plan) -> Plan:
    """Return the plan of the same picture that begins with the other subject of a relation."""
    return replace(plan, subjects=plan.subjects[::-1], relation=OPPOSITE[plan.relation])


def completed(plan: Plan) -> Plan:
    """Return a short prompt's plan with what it leaves open: always the same choice."""
    colour = plan.colour
    subjects = plan.subjects
    if "colour" in plan.unsaid:
        colour = colour and "black"
        subjects = tuple(replace(one, colour=_natural(one.form)) for one in subjects)
    taken = {colour, *(one.colour for one in subjects)}
    ground = plan.ground
    if "ground" in plan.unsaid:
        plain = ("white",) if "white" not in taken else ("blue",)
        ground = () if plan.kind == "thing" else plain  # a thing stands in its own surroundings
    face = plan.face
    if "face" in plan.unsaid and face:
        face = "hei" if plan.kind == "hanzi" else "sans"
    return replace(plan, subjects=subjects, colour=colour, ground=ground, face=face)


def _natural(form: str) -> str:
    return THINGS[form].colours[0] if form in THINGS else _USUAL_SHAPE


def shortened(rng: random.Random, plan: Plan) -> Plan:
    """Return a plan whose caption leaves things out: most backgrounds, some colours and faces."""
    out = {"ground"} if plan.ground and chance(rng, 0.75) else set[str]()
    if plan.kind != "relation" and plan.style != "pastel" and chance(rng, 0.3):
        out.add("colour")
    if plan.text and chance(rng, 0.7):
        out.add("face")
    return replace(plan, unsaid=frozenset(out))


def expand(rng: random.Random, plan: Plan) -> Exchange:
    """Return a short prompt and the caption that says all of it and what it left open."""
    short = shortened(rng, plan)
    chinese = chance(rng, _CHINESE_SHARE)
    write = captions.in_chinese if chinese else captions.in_english
    text = write(rng, short)
    for article in ("a ", "an "):
        if not chinese and text.startswith(article) and chance(rng, 0.6):
            text = text.removeprefix(article)
    answer = full_caption(completed(short), chinese=chinese)
    return Exchange("expand", EXPAND[chinese] + text, answer)


def ask(rng: random.Random, plan: Plan) -> Exchange:
    """Return a question about the picture with its short answer, half of the yes-or-noes no."""
    chinese = chance(rng, _CHINESE_SHARE)
    ways = [_is_background] if plan.ground else []
    if plan.subjects:
        ways += [_is_there, _how_many]
        ways += [_which_colour] if len(plan.subjects) == 1 else []
    if len(plan.ground) == 1:
        ways.append(_which_background)
    if plan.text:
        ways.append(_which_text_colour)
    question, answer = rng.choice(ways)(rng, plan, chinese)
    return Exchange("ask", question, answer)


def _tone(name: str, chinese: bool) -> str:
    return (COLOURS[name].chinese if chinese else COLOURS[name].english)[0]


def _noun(form: str, chinese: bool, *, several: bool = False) -> str:
    thing = THINGS.get(form)
    if thing is not None:
        return thing.chinese if chinese else thing.english
    shape = SHAPES[form]
    return shape.chinese[0] if chinese else shape.english[0][several]


def _yes(truth: bool, chinese: bool) -> str:
    return ("是" if truth else "否") if chinese else ("yes" if truth else "no")


def _is_background(rng: random.Random, plan: Plan, chinese: bool) -> tuple[str, str]:
    tone = plan.ground[0] if chance(rng, 0.5) else rng.choice(tuple(COLOURS))
    if len(plan.ground) > 1:
        tone = rng.choice([name for name in COLOURS if name not in plan.ground])
    said = _tone(tone, chinese)
    question = f"背景是{said}吗?" if chinese else f"Is the background {said}?"
    return question, _yes(plan.ground == (tone,), chinese)


def _is_there(rng: random.Random, plan: Plan, chinese: bool) -> tuple[str, str]:
    forms = [one.form for one in plan.subjects]
    pool = tuple(THINGS) if forms[0] in THINGS else tuple(SHAPES)
    form = rng.choice(forms) if chance(rng, 0.5) else rng.choice(pool)
    said = _noun(form, chinese)
    question = f"图里有{said}吗?" if chinese else f"Is there a {said}?"
    return question, _yes(form in forms, chinese)


def _how_many(rng: random.Random, plan: Plan, chinese: bool) -> tuple[str, str]:
    del rng
    form = plan.subjects[0].form
    count = plan.count * sum(one.form == form for one in plan.subjects)
    said = _noun(form, chinese, several=True)
    question = f"有几个{said}?" if chinese else f"How many {said}?"
    return question, _NUMBERS[chinese][count - 1]


def _which_colour(rng: random.Random, plan: Plan, chinese: bool) -> tuple[str, str]:
    del rng
    [subject] = plan.subjects
    said = _noun(subject.form, chinese)
    question = f"{said}是什么颜色?" if chinese else f"What color is the {said}?"
    return question, _tone(subject.colour, chinese)


def _which_background(rng: random.Random, plan: Plan, chinese: bool) -> tuple[str, str]:
    del rng
    question = "背景是什么颜色?" if chinese else "What color is the background?"
    return question, _tone(plan.ground[0], chinese)


def _which_text_colour(rng: random.Random, plan: Plan, chinese: bool) -> tuple[str, str]:
    del rng
    question = "文字是什么颜色?" if chinese else "What color is the text?"
    return question, _tone(plan.colour, chinese)


def of_picture(rng: random.Random, plan: Plan) -> Exchange:
    """Return an exchange about the picture of a plan: two of three describe it."""
    if plan.subjects or plan.text:
        return describe(rng, plan) if chance(rng, 0.67) else ask(rng, plan)
    raise ValueError("an empty plan")


def of_text(rng: random.Random) -> Exchange:
    """Return an exchange without a picture, of a plan that is never held out."""
    # Texts differ most, and are copied to the letter.
    weights: dict[str, Any] = {**KINDS, "thing": 16}
    kind = rng.choices(tuple(weights), tuple(weights.values()))[0]
    return expand(rng, draw_plan(rng, kind=kind))
