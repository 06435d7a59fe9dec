"""Changes of a scene: what an instruction asks for, with the pictures before and after."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass, replace
from typing import Final

from PIL import Image

from bot.lab.tiny.train.scenes import layout as layouts
from bot.lab.tiny.train.scenes import letters
from bot.lab.tiny.train.scenes.layout import SMALL, SPOTS, Layout, Part, paint_layout
from bot.lab.tiny.train.scenes.palette import COLOURS, Rgb
from bot.lab.tiny.train.scenes.plan import HELD_OUT_ONE_IN, Plan, chance, random_text

KINDS: Final = {
    "recolour": 17, "background": 17, "add": 11, "remove": 12, "replace": 19, "move": 14,
    "resize": 17, "word": 13,
}  # fmt: skip
"""Kinds of changes of one picture and their weights."""
PAIR_KINDS: Final = {"colour of": 3, "background of": 1}
"""Kinds of changes that take something from a second picture, and their weights."""
GROWN: Final = 1.6
"""How much larger a part is after "bigger"; "smaller" is the inverse."""
_SEEN: Final = 60.0
"""Least distance of a part's colour and its background's, of 255 a channel."""


@dataclass(frozen=True)
class Change:
    """A change from `sources` (the first is what changes) to `target`.

    `old` is what it concerns in the first source, `new` what stands there afterwards; `place` is a
    spot's name, or `bigger` or `smaller`.
    """

    kind: str
    sources: tuple[Layout, ...]
    target: Layout
    old: Part | None = None
    new: Part | None = None
    place: str = ""

    @property
    def key(self) -> str:
        """Name the combination; changes that ask for the same share it."""
        names = [
            f"{part.colour} {part.form}" if part else ""
            for part in (self.old, self.new if self.new != self.old else None)
        ]
        ground = "+".join(self.target.ground) if "background" in self.kind else ""
        return "|".join([self.kind, *names, self.place, ground])

    @property
    def held_out(self) -> bool:
        """Whether the change is for the evaluation alone; a word is, where no drawing shows it."""
        if self.kind == "word":
            return self.new is not None and _held_out_text(self.new)
        digest = hashlib.blake2s(self.key.encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") % HELD_OUT_ONE_IN == 0

    def pictures(self) -> tuple[list[Image.Image], Image.Image]:
        """Return the pictures before and the picture after, RGB, 256x256."""
        return [paint_layout(one) for one in self.sources], paint_layout(self.target)


def _held_out_text(part: Part) -> bool:
    kind = "hanzi" if part.face in letters.CHINESE else "text"
    return kind == "text" and Plan("text", text=part.text).held_out


def with_part(layout: Layout, old: Part, new: Part | None) -> Layout:
    """Return the layout with another part (or none) in a part's place."""
    kept = [new if one is old else one for one in layout.parts]
    return replace(layout, parts=tuple(one for one in kept if one is not None))


def _recolour(rng: random.Random) -> Change | None:
    layout = layouts.draw_layout(rng)
    old = rng.choice(layout.parts)
    new = replace(old, colour=layouts.colour(rng, {*layout.ground, old.colour}))
    return Change("recolour", (layout,), with_part(layout, old, new), old, new)


def _background(rng: random.Random) -> Change | None:
    layout = layouts.draw_layout(rng)
    ground = layouts.ground(rng, layout.colours)
    return Change("background", (layout,), replace(layout, ground=ground), layout.parts[0])


def _add(rng: random.Random) -> Change | None:
    layout = layouts.draw_layout(rng)
    place = rng.choice(tuple(SPOTS))
    name = layouts.form(rng, {part.form for part in layout.parts})
    tone = layouts.colour(rng, layout.colours)
    new = Part(name, tone, *layouts.near(rng, place), rng.uniform(0.93, 1.0) * SMALL)
    if not layout.ground or not layouts.fits(layout, new):
        return None
    target = replace(layout, parts=(*layout.parts, new))
    return Change("add", (layout,), target, None, new, place)


def _remove(rng: random.Random) -> Change | None:
    layout = layouts.draw_layout(rng, parts=0 if chance(rng, 0.2) else rng.choice((2, 3, 4)))
    if not layout.ground:
        return None
    old = rng.choice(layout.parts)
    return Change("remove", (layout,), with_part(layout, old, None), old)


def _replace(rng: random.Random) -> Change | None:
    layout = layouts.draw_layout(rng)
    if not layout.ground:
        return None
    old = rng.choice(layout.parts)
    name = layouts.form(rng, {part.form for part in layout.parts})
    tone = old.colour if chance(rng, 0.5) else layouts.colour(rng, layout.colours)
    new = replace(old, form=name, colour=tone)
    return Change("replace", (layout,), with_part(layout, old, new), old, new)


def _move(rng: random.Random) -> Change | None:
    layout = layouts.draw_layout(rng)
    old = rng.choice(layout.parts)
    place = rng.choice(tuple(SPOTS))
    x, y = SPOTS[place]
    new = replace(old, x=x, y=y)
    rest = with_part(layout, old, None)
    still = abs(x - old.x) + abs(y - old.y) < 0.2  # noqa: PLR2004 - it is there already
    if still or not layout.ground or not layouts.fits(rest, new):
        return None
    return Change("move", (layout,), with_part(layout, old, new), old, new, place)


def _resize(rng: random.Random) -> Change | None:
    layout = layouts.draw_layout(rng)
    old = rng.choice(layout.parts)
    bigger = chance(rng, 0.7)
    new = replace(old, radius=old.radius * (GROWN if bigger else 1 / GROWN))
    small = new.radius < 0.1  # noqa: PLR2004 - hard to see
    if small or not layout.ground or not layouts.fits(with_part(layout, old, None), new):
        return None
    place = "bigger" if bigger else "smaller"
    return Change("resize", (layout,), with_part(layout, old, new), old, new, place)


def _word(rng: random.Random) -> Change | None:
    tone = rng.choice(tuple(layouts.COLOURS))
    ground = layouts.ground(rng, {tone})
    hanzi = chance(rng, 0.12)
    if hanzi:
        face = rng.choices(tuple(letters.CHINESE), (80, 20))[0]
        before, after = rng.sample(letters.HANZI, 2)
    else:
        face = rng.choices(tuple(letters.LATIN), (64, 9, 9, 9, 9))[0]
        before, after = random_text(rng), random_text(rng)
    part = Part("text", tone, *layouts.near(rng, "centre"), 0.28, before, face)
    new = replace(part, text=after)
    if before == after or _held_out_text(part):
        return None
    return Change("word", (Layout(ground, (part,)),), Layout(ground, (new,)), part, new)


def _colour_of(rng: random.Random) -> Change | None:
    first, second = (layouts.draw_layout(rng, parts=1) for _ in range(2))
    [old], [other] = first.parts, second.parts
    if not first.ground or other.colour in first.colours or other.form == old.form:
        return None
    new = replace(old, colour=other.colour)
    return Change("colour of", (first, second), with_part(first, old, new), old, new)


def _background_of(rng: random.Random) -> Change | None:
    first, second = (layouts.draw_layout(rng, parts=1) for _ in range(2))
    taken = set(second.ground) & first.colours
    if not second.ground or taken or second.parts[0].form == first.parts[0].form:
        return None
    target = replace(first, ground=second.ground)
    return Change("background of", (first, second), target, first.parts[0])


_MAKERS: Final = {
    "recolour": _recolour, "background": _background, "add": _add, "remove": _remove,
    "replace": _replace, "move": _move, "resize": _resize, "word": _word,
    "colour of": _colour_of, "background of": _background_of,
}  # fmt: skip


def in_any_colours(rng: random.Random, change: Change) -> Change:
    """Return a change of the background whose parts have any colours that can be seen on both.

    Training has most of them so. A model that always sees a named one learns by heart which
    background comes with which part, and gives another to a part that never had the one it is told.
    """
    source = change.sources[0]
    grounds = [COLOURS[name].rgb for name in (*source.ground, *change.target.ground)]
    parts = tuple(replace(part, other=_seen_on(rng, grounds)) for part in source.parts)
    sources = (replace(source, parts=parts), *change.sources[1:])
    return replace(change, sources=sources, target=replace(change.target, parts=parts))


def _seen_on(rng: random.Random, grounds: list[Rgb]) -> Rgb:
    while True:
        found = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        if all(math.dist(found, ground) > _SEEN for ground in grounds):
            return found


def draw_change(
    rng: random.Random, *, holdout: bool = False, kind: str | None = None, pictures: int = 1
) -> Change:
    """Return a change: trained combinations only, or with `holdout` held-out ones.

    Args:
        rng: the only source of randomness.
        holdout: draw only changes that are never drawn without it.
        kind: one of `KINDS` or `PAIR_KINDS`; by default drawn by their weights.
        pictures: 1 or 2; how many sources a change has whose kind is not given.
    """
    table = KINDS if pictures == 1 else PAIR_KINDS
    chosen = kind or rng.choices(tuple(table), tuple(table.values()))[0]
    while True:
        change = _MAKERS[chosen](rng)
        if change is not None and change.held_out is holdout:
            return change
