"""The training data: what is drawn, what is said of it, and what is held out."""

from __future__ import annotations

import random
from itertools import islice

import numpy as np
import pytest

from bot.lab.tiny.train.scenes import draw_scene, letters
from bot.lab.tiny.train.scenes.canvas import STYLES
from bot.lab.tiny.train.scenes.edits import draw_change, in_any_colours
from bot.lab.tiny.train.scenes.ink import PAPER, PEN
from bot.lab.tiny.train.scenes.letters import CHINESE, HANZI, LATIN, LETTERS, PAIRS, font
from bot.lab.tiny.train.scenes.palette import COLOURS
from bot.lab.tiny.train.scenes.plan import KINDS, Plan, Subject
from bot.lab.tiny.train.scenes.scene import paint
from bot.lab.tiny.train.scenes.shapes import SHAPES
from bot.lab.tiny.train.scenes.things import THINGS


def scenes(seed: int, **options):
    rng = random.Random(seed)
    while True:
        yield draw_scene(rng, 64, 64, **options)


def test_the_same_seed_draws_the_same_scene():
    for kind in KINDS:
        first, second = (draw_scene(random.Random(5), kind=kind) for _ in range(2))
        assert first.caption == second.caption
        assert first.facts == second.facts
        assert first.picture.tobytes() == second.picture.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_held_out_captions_are_never_trained_on(kind):
    trained = {scene.caption for scene in islice(scenes(1, kind=kind), 600)}
    held_out = {scene.caption for scene in islice(scenes(2, kind=kind, holdout=True), 60)}
    assert len(held_out) > 10
    assert not trained & held_out


@pytest.mark.slow
def test_held_out_texts_are_never_trained_on():
    def words(holdout: bool) -> set[str]:
        drawn = islice(scenes(3, kind="text", holdout=holdout), 1500 if not holdout else 200)
        return {scene.facts["text"] for scene in drawn if len(scene.facts["text"]) > 1}

    trained, held_out = words(holdout=False), words(holdout=True)
    assert len(trained & set(letters.WORDS)) > 30  # repeats: words come up often enough to matter
    assert len(held_out) > 50
    assert not trained & held_out


def test_a_combination_is_held_out_whatever_its_picture_leaves_open():
    plan = Plan("shape", (Subject("star", "red"),), ("white",))
    for change in ({"style": "pixel"}, {"size": "big"}, {"unsaid": frozenset({"ground"})}):
        other = Plan(**{**vars(plan), **change})
        assert other.held_out == plan.held_out


def test_facts_are_what_the_caption_says():
    for scene in islice(scenes(4), 800):
        facts, caption = scene.facts, scene.caption
        colours = [one["colour"] for one in facts.get("subjects", ()) if "colour" in one]
        colours += [facts["colour"]] if "colour" in facts else []
        for name in (*colours, *facts.get("background", ())):
            names = (*COLOURS[name].english, *COLOURS[name].chinese)
            assert any(one in caption for one in names), (caption, facts)
        if "text" in facts:
            assert facts["text"] in caption
        if "background" not in facts:
            assert "background" not in caption
            assert "背景" not in caption


@pytest.mark.parametrize("style", STYLES)
def test_everything_that_has_a_name_can_be_drawn(style):
    blank = {}
    for name in (*SHAPES, *THINGS):
        kind = "shape" if name in SHAPES else "thing"
        pictures = [
            paint(
                random.Random(0), Plan(kind, (Subject(name, colour),), ("white",), style), 256, 384
            )
            for colour in ("red", "blue")
        ]
        assert {picture.size for picture in pictures} == {(256, 384)}
        assert pictures[0].mode == "RGB"
        assert pictures[0].tobytes() != pictures[1].tobytes(), name
        blank[pictures[0].tobytes()] = name
    assert len(blank) == len(SHAPES) + len(THINGS)


def test_in_ink_there_are_two_colours_and_the_same_captions():
    rng, other = random.Random(7), random.Random(7)
    for _ in range(200):
        scene = draw_scene(rng, style="ink")
        assert scene.caption == draw_scene(other).caption
        red, green, blue = (np.asarray(scene.picture, np.int32)[..., band] for band in range(3))
        # Every pixel is a mix of paper and pen: where it lies between them is one number.
        share = (red - PEN[0]) / (PAPER[0] - PEN[0])
        assert np.abs(PEN[1] + share * (PAPER[1] - PEN[1]) - green).max() <= 2
        assert np.abs(PEN[2] + share * (PAPER[2] - PEN[2]) - blue).max() <= 2
        assert 0.3 < share.mean() < 1.0, scene.caption


@pytest.mark.parametrize("name", [*SHAPES, *THINGS])
def test_ink_shows_how_dark_a_colour_is(name):
    kind = "shape" if name in SHAPES else "thing"
    drawn = [
        np.asarray(
            paint(random.Random(0), Plan(kind, (Subject(name, colour),), ("white",)), style="ink")
        ).mean()
        for colour in ("white", "orange", "blue", "black")
    ]
    if name == "lighthouse":  # the light parts between its stripes stay light
        assert drawn[0] > drawn[3]
        return
    assert drawn == sorted(drawn, reverse=True)
    assert len(set(drawn)) == 4


def test_parts_of_any_colours_keep_them_on_another_background():
    rng = random.Random(3)
    for _ in range(10):
        change = draw_change(rng, kind="background")
        other = in_any_colours(rng, change)
        assert (other.key, other.target.ground) == (change.key, change.target.ground)
        [before], after = other.pictures()
        parts = other.target.parts
        assert len({part.rgb for part in parts}) == len(parts)
        for picture in (before, after):
            seen = {colour for _, colour in picture.getcolors(256 * 256)}
            assert {part.rgb for part in parts} <= seen
        assert before.tobytes() != after.tobytes()


@pytest.mark.parametrize(
    ("faces", "characters"), [(LATIN, LETTERS + letters.DIGITS), (CHINESE, HANZI + "".join(PAIRS))]
)
def test_the_fonts_have_every_character(faces, characters):
    for face in faces:
        absent = bytes(font(face, 40).getmask("\uffff"))
        drawn = {bytes(font(face, 40).getmask(one)) for one in set(characters)}
        assert len(drawn) == len(set(characters))
        assert absent not in drawn


def test_a_missing_font_names_its_package(monkeypatch, tmp_path):
    monkeypatch.setattr(letters, "_folders", lambda: [tmp_path])
    letters.font_path.cache_clear()
    try:
        with pytest.raises(letters.FontMissingError, match="fonts-noto-cjk"):
            letters.font_path("hei")
    finally:
        letters.font_path.cache_clear()
