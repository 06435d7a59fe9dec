"""Plans: what one picture shows, decided before anything is drawn, and which are held out."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace
from typing import Final

from bot.lab.tiny.train.scenes import letters
from bot.lab.tiny.train.scenes.palette import COLOURS
from bot.lab.tiny.train.scenes.shapes import OUTER, SHAPES
from bot.lab.tiny.train.scenes.things import THINGS

KINDS: Final = {
    "shape": 17, "place": 7, "count": 14, "relation": 14, "text": 24, "hanzi": 13, "thing": 11,
}  # fmt: skip
"""Kinds of pictures and their weights: what is judged most is drawn most."""

HELD_OUT_ONE_IN: Final = 16
"""One combination in so many is never trained on."""

PLACES: Final = ("left", "right", "top", "bottom")
RELATIONS: Final = ("left", "right", "above", "below", "inside")


@dataclass(frozen=True)
class Subject:
    """A shape or thing in a colour."""

    form: str
    colour: str


@dataclass(frozen=True)
class Plan:
    """Everything that a picture shows, and which of it the caption leaves out (`unsaid`)."""

    kind: str
    subjects: tuple[Subject, ...] = ()
    ground: tuple[str, ...] = ()
    """Colours of the background: none is a thing's own surroundings, two are a gradient."""
    style: str = "flat"
    count: int = 1
    size: str = ""
    place: str = ""
    relation: str = ""
    text: str = ""
    colour: str = ""
    face: str = ""
    unsaid: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """Name the combination; two pictures that show the same share it."""
        subjects = "+".join(f"{one.colour} {one.form}" for one in self.subjects)
        if self.kind == "text" and len(self.text) > 1:
            return f"text {self.text}"
        parts = [self.kind, subjects, str(self.count), self.place, self.relation, self.text]
        if self.kind != "relation":  # a relation has combinations enough without its background
            parts += [self.colour, " ".join(self.ground)]
        return "|".join(parts)

    @property
    def held_out(self) -> bool:
        """Whether the combination is for the evaluation alone."""
        digest = hashlib.blake2s(self.key.encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") % HELD_OUT_ONE_IN == 0


def chance(rng: random.Random, share: float) -> bool:
    """Return True for `share` of the calls."""
    return rng.random() < share


def _colour(rng: random.Random, *taken: str) -> str:
    while (name := rng.choice(tuple(COLOURS))) in taken:
        pass
    return name


def _ground(rng: random.Random, *taken: str) -> tuple[str, ...]:
    """Return the background's colours: white often, a gradient sometimes."""
    if "white" not in taken and chance(rng, 0.25):
        return ("white",)
    first = _colour(rng, *taken)
    if chance(rng, 0.12):
        return first, _colour(rng, first, *taken)
    return (first,)


def _shape(rng: random.Random) -> str:
    return rng.choice(tuple(SHAPES))


def _style(rng: random.Random) -> str:
    return rng.choices(("flat", "outline", "pixel", "pastel"), (73, 9, 9, 9))[0]


def _single(rng: random.Random, kind: str) -> Plan:
    colour = _colour(rng)
    plan = Plan(kind, (Subject(_shape(rng), colour),), _ground(rng, colour))
    if kind == "place":
        return replace(plan, place=rng.choice(PLACES))
    size = rng.choices(("", "small", "big"), (70, 15, 15))[0]
    return replace(plan, size=size, style=_style(rng))


def _count(rng: random.Random) -> Plan:
    colour = _colour(rng)
    subject = Subject(_shape(rng), colour)
    return Plan("count", (subject,), _ground(rng, colour), count=rng.choice((2, 3, 3, 4, 4)))


def _relation(rng: random.Random) -> Plan:
    relation = rng.choice(RELATIONS)
    first = _colour(rng)
    second = _colour(rng, first)
    form = _shape(rng)
    other = rng.choice(OUTER) if relation == "inside" else _shape(rng)
    while relation == "inside" and form == "ring":
        form = _shape(rng)
    subjects = Subject(form, first), Subject(other, second)
    ground = _ground(rng, first, second)[:1]
    return Plan("relation", subjects, ground, relation=relation)


def random_text(rng: random.Random) -> str:
    """Return a word, or one to six letters or digits; three letters are the most frequent."""
    if chance(rng, 0.22):
        return rng.choice(letters.WORDS)
    length = rng.choices((1, 2, 3, 4, 5, 6), (14, 12, 46, 14, 8, 6))[0]
    pool = letters.DIGITS if chance(rng, 0.14) else letters.LETTERS
    return "".join(rng.choices(pool, k=length))


def _text(rng: random.Random) -> Plan:
    colour = _colour(rng)
    face = rng.choices(tuple(letters.LATIN), (64, 9, 9, 9, 9))[0]
    text = random_text(rng)
    return Plan("text", ground=_ground(rng, colour), text=text, colour=colour, face=face)


def _hanzi(rng: random.Random) -> Plan:
    colour = _colour(rng)
    face = rng.choices(tuple(letters.CHINESE), (80, 20))[0]
    text = rng.choice(letters.HANZI) if chance(rng, 0.75) else rng.choice(letters.PAIRS)
    return Plan("hanzi", ground=_ground(rng, colour), text=text, colour=colour, face=face)


def _thing(rng: random.Random) -> Plan:
    form = rng.choice(tuple(THINGS))
    colour = rng.choice(THINGS[form].colours)
    ground = () if chance(rng, 0.5) or form == "night" else _ground(rng, colour)
    style = "flat" if form == "night" else _style(rng)
    return Plan("thing", (Subject(form, colour),), ground, style=style)


def _unsaid(rng: random.Random, plan: Plan) -> frozenset[str]:
    """Choose what a caption leaves out."""
    out: set[str] = set()
    # A thing without a background has its own surroundings.
    if plan.kind != "thing" and chance(rng, 0.3):
        out.add("ground")
    if plan.kind in {"text", "hanzi"}:
        if chance(rng, 0.2):
            out.add("colour")
        if chance(rng, 0.2):
            out.add("face")
    elif plan.kind != "relation" and chance(rng, 0.08):
        out.add("colour")
    if plan.style == "pastel":  # the colours would be others
        out -= {"colour", "ground"}
    return frozenset(out)


def draw_plan(rng: random.Random, *, holdout: bool = False, kind: str | None = None) -> Plan:
    """Return a plan: trained combinations only, or with `holdout` held-out ones, all said."""
    chosen = kind or rng.choices(tuple(KINDS), tuple(KINDS.values()))[0]
    while True:
        match chosen:
            case "shape" | "place":
                plan = _single(rng, chosen)
            case "count":
                plan = _count(rng)
            case "relation":
                plan = _relation(rng)
            case "text":
                plan = _text(rng)
            case "hanzi":
                plan = _hanzi(rng)
            case "thing":
                plan = _thing(rng)
            case _:
                raise ValueError(chosen)
        if plan.held_out is holdout:
            return plan if holdout else replace(plan, unsaid=_unsaid(rng, plan))
