"""Regions that were drawn on a copy: found also after compression and scaling, and only then."""

from __future__ import annotations

import io
import random

import pytest
from PIL import Image, ImageDraw

from bot.lab.tiny.train.scenes import draw_scene
from bot.lab.tiny.train.scenes.letters import FACES, FontMissingError, font_path
from bot.regions.finder import find_region
from bot.regions.named import NAMES, named_region
from tests.regions.strokes import KINDS, drawn, overlap, stroke_on

SIZES = ((256, 256), (384, 256), (256, 384), (512, 512))
FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
STROKES = 200
GOOD, SHARE = 0.8, 0.95


@pytest.fixture(autouse=True, scope="module")
def fonts() -> None:
    """The scenes that the tiny model is trained on, which these strokes are drawn on, want fonts."""
    try:
        for face in FACES:
            font_path(face)
    except FontMissingError as error:
        pytest.skip(str(error))


def returned(
    picture: Image.Image, scale: float, quality: int | None, rng: random.Random
) -> Image.Image:
    """The copy as an app sends it back."""
    if scale != 1:
        size = round(picture.width * scale), round(picture.height * scale)
        picture = picture.resize(size, rng.choice(FILTERS))
    if quality is None:
        return picture
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue()))


def scenes(rng: random.Random, count: int):
    for number in range(count):
        yield draw_scene(rng, *SIZES[number // len(KINDS) % len(SIZES)]).picture


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scale", [pytest.param(1.0, marks=pytest.mark.thorough), 0.5])
@pytest.mark.parametrize("quality", [None, 80])
def test_the_region_that_is_meant_is_found(scale, quality):
    rng = random.Random(24)
    overlaps: list[tuple[float, int, str]] = []
    for number, picture in enumerate(scenes(rng, STROKES)):
        stroke = stroke_on(picture, KINDS[number % len(KINDS)], rng)
        found = find_region(picture, returned(stroke.picture, scale, quality, rng))
        near = 0.0 if found is None else overlap(found.mask, stroke.meant)
        overlaps.append((round(near, 2), number, stroke.kind))
    good = sum(near >= GOOD for near, _number, _kind in overlaps)
    assert good >= SHARE * STROKES, (good, sorted(overlaps)[:20])


def test_one_stroke_of_each_kind_is_found_in_a_small_compressed_copy():
    rng = random.Random(3)
    for kind in KINDS:
        picture = draw_scene(rng, 256, 256).picture
        stroke = stroke_on(picture, kind, rng)
        found = find_region(picture, returned(stroke.picture, 0.5, 80, rng))
        assert found is not None, kind
        assert found.mask.size == picture.size
        assert overlap(found.mask, stroke.meant) >= 0.7, kind
        assert 0 < found.share < 1


@pytest.mark.slow
@pytest.mark.parametrize("quality", [None, 30, 60, 80, 95])
def test_an_unmarked_copy_is_never_taken_for_a_marked_one(quality):
    rng = random.Random(9)
    for picture in scenes(rng, 16):
        for scale in (1, 0.5, 0.37, 0.75, 1.5):
            copy = returned(picture, scale, quality, rng)
            assert find_region(picture, copy) is None, (picture.size, scale)


def test_another_picture_is_no_marked_copy():
    rng = random.Random(5)
    one, other = (draw_scene(rng, 256, 256, kind="text").picture for _ in range(2))
    assert find_region(one, Image.new("RGB", (256, 256), "white")) is None or one == other
    assert find_region(one, one.resize((384, 256))) is None
    assert find_region(one, one.resize((40, 40))) is None
    noise = Image.effect_noise((256, 256), 200).convert("RGB")
    assert find_region(one, noise) is None


def test_several_marks_are_one_region():
    picture = Image.new("RGB", (320, 240), (90, 140, 90))
    copy = picture.copy()
    draw = ImageDraw.Draw(copy)
    draw.ellipse((20, 20, 110, 110), outline=(255, 0, 0), width=5)
    draw.rectangle((200, 120, 300, 220), fill=(0, 0, 255))
    found = find_region(picture, copy)
    assert found is not None
    assert found.marks == 2
    assert found.mask.getpixel((65, 65)) == found.mask.getpixel((250, 170)) == 255
    assert found.mask.getpixel((160, 60)) == found.mask.getpixel((160, 200)) == 0


def test_a_black_and_white_picture_is_a_mask():
    picture = draw_scene(random.Random(1), 384, 256).picture
    meant = drawn(picture.size, [(50, 50), (200, 60), (120, 200), (50, 50)], 0, fill=True)
    solid = meant.point(lambda level: 255 * (level > 127))
    for scale in (1, 0.5, 2):
        found = find_region(picture, returned(meant.convert("RGB"), scale, 80, random.Random(1)))
        assert found is not None
        assert overlap(found.mask, solid) > 0.95
    assert find_region(solid.convert("RGB"), solid.convert("RGB")) is None


def test_sides_and_the_middle_are_where_they_are_said_to_be():
    picture = Image.new("RGB", (200, 100), "grey")
    shares = {}
    for name in NAMES[:-1]:
        mask = named_region(picture, name)
        assert mask is not None
        shares[name] = mask.histogram()[255] / (200 * 100)
    assert shares == {"left": 0.5, "right": 0.5, "top": 0.5, "bottom": 0.5, "middle": 0.25}
    left = named_region(picture, "left")
    assert left is not None
    assert (left.getpixel((0, 0)), left.getpixel((199, 99))) == (255, 0)


def test_the_background_is_what_has_the_colours_of_the_edge():
    picture = Image.new("RGB", (300, 200), (30, 60, 200))
    ImageDraw.Draw(picture).rectangle((0, 140, 299, 199), fill=(20, 120, 20))
    ImageDraw.Draw(picture).ellipse((90, 40, 210, 180), fill=(220, 40, 40))
    mask = named_region(picture, "background")
    assert mask is not None
    meant = Image.new("L", picture.size, 255)
    ImageDraw.Draw(meant).ellipse((90, 40, 210, 180), fill=0)
    assert overlap(mask, meant) > 0.95
    assert named_region(Image.new("RGB", (300, 200), "navy"), "background") is None
