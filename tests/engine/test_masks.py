"""Masks: which part of a picture is redrawn, and what stays of the picture, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bot.engine.child.inputs import cut, read_input
from bot.engine.child.masks import read_mask, redrawn
from bot.engine.child.region import FEATHER, Region, around, feathered
from bot.errors import EngineError, EngineErrorKind
from tests.engine.test_inputs import BAD, SIZE, saved


def on_disk(folder, image: Image.Image, name: str, kind: str = "PNG", **options):
    path = folder / name
    path.write_bytes(saved(image, kind, **options))
    return path


@pytest.mark.parametrize("name", [*BAD, "missing"])
def test_a_bad_mask_is_the_jobs_own_fault(tmp_path, name):
    picture, mask = on_disk(tmp_path, Image.new("RGB", (64, 48)), "input"), tmp_path / "mask"
    if name in BAD:
        mask.write_bytes(BAD[name])
    with pytest.raises(EngineError) as caught:
        read_mask(mask, picture, SIZE)
    assert caught.value.kind is EngineErrorKind.REFUSED
    assert caught.value.sentence.startswith("The mask")


def test_white_is_redrawn_or_what_is_opaque_and_for_openai_what_is_transparent():
    left = Image.new("L", (8, 4), 0)
    left.paste(255, (0, 0, 4, 4))
    right = left.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    paint = Image.merge("LA", (Image.new("L", (8, 4), 0), left))
    for mask in (left, left.convert("RGB"), left.convert("RGBA"), left.convert("1"), paint):
        assert redrawn(mask).tobytes() == left.tobytes()
    for mask in (paint, paint.convert("RGBA")):
        assert redrawn(mask, inverted=True).tobytes() == right.tobytes()
    assert redrawn(left.convert("RGBA"), inverted=True).getbbox() is None


def test_a_mask_lies_over_the_picture_as_it_is_cut(tmp_path):
    """The same marks on the picture and on a smaller mask of it, both turned by their Exif."""
    drawn = Image.new("L", (120, 240), 0)
    ImageDraw.Draw(drawn).rectangle((40, 60, 79, 119), fill=255)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = on_disk(tmp_path, drawn.convert("RGB"), "input", exif=exif)
    small = drawn.resize((60, 120))
    turned = on_disk(tmp_path, small, "turned", exif=exif)
    upright = on_disk(tmp_path, small.transpose(Image.Transpose.ROTATE_270), "upright")
    seen = np.asarray(read_input(picture, (96, 64)).convert("L"), int)
    for path in (turned, upright):
        mask = np.asarray(read_mask(path, picture, (96, 64)), int)
        assert np.abs(mask - seen).mean() < 4
        assert 0.1 < (mask > 127).mean() < 0.2
    across = on_disk(tmp_path, small, "across")
    with pytest.raises(EngineError, match="its shape"):
        read_mask(across, picture, (96, 64))


def test_the_shades_of_a_jpeg_let_nothing_change(tmp_path):
    mask = Image.new("L", (64, 48), 0)
    ImageDraw.Draw(mask).ellipse((20, 10, 44, 38), fill=255)
    picture = on_disk(tmp_path, Image.new("RGB", (64, 48)), "input")
    path = on_disk(tmp_path, mask, "mask", "JPEG", quality=80)
    values = np.asarray(read_mask(path, picture, SIZE))
    assert (values[:8] == 0).all()
    assert (values[41:] == 0).all()
    assert (values[20:28, 28:36] == 255).all()


@pytest.mark.parametrize(
    ("mask", "inverted", "part"),
    [
        (Image.new("L", (64, 48), 0), False, "white"),
        (Image.new("RGB", (64, 48), "white"), True, "transparent"),
        (Image.new("RGBA", (64, 48), "white"), True, "transparent"),
    ],
)
def test_a_mask_of_nothing_is_told_so(tmp_path, mask, inverted, part):
    picture = on_disk(tmp_path, Image.new("RGB", (64, 48)), "input")
    with pytest.raises(EngineError) as caught:
        read_mask(on_disk(tmp_path, mask, "mask"), picture, SIZE, inverted=inverted)
    assert f"its {part} part" in caught.value.sentence


def test_a_feather_lies_within_the_mask_and_leaves_its_middle():
    mask = Image.new("L", (120, 90), 0)
    draw = ImageDraw.Draw(mask)
    draw.rectangle((0, 10, 59, 59), fill=255)  # touches the border of the picture
    draw.line((80, 5, 80, 80), fill=255)  # one pixel thin
    draw.rectangle((90, 70, 95, 75), fill=255)
    draw.ellipse((88, 10, 116, 38), fill=128)
    values, share = np.asarray(mask), np.asarray(feathered(mask))
    assert (share[values == 0] == 0).all()
    assert (share <= values).all()
    assert share[35, 48:62].tolist() == [
        255,
        255,
        255,
        255,
        *(255 * n // 8 for n in range(8, 0, -1)),
        0,
        0,
    ]
    assert (share[20:50, :50] == 255).all()
    assert (share[5:81, 80] == 255).all()
    assert share[72, 92] == 255
    assert share[24, 102] == 128


def noisy(mode: str, size: tuple[int, int], seed: int) -> Image.Image:
    shape = (size[1], size[0], len(mode))
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("drawn_as", ["RGB", "RGBA"])
@pytest.mark.parametrize("source_as", ["RGB", "RGBA"])
def test_outside_of_the_mask_is_the_source_to_the_bit(source_as, drawn_as):
    source, drawn = noisy(source_as, SIZE, 1), noisy(drawn_as, SIZE, 2)
    mask = Image.new("L", SIZE, 0)
    mask.paste(255, (10, 10, 50, 40))
    pasted = Region(source, mask).paste(drawn)
    assert pasted.mode == drawn_as
    white = Image.new("RGBA", SIZE, "white")
    laid = Image.alpha_composite(white, source.convert("RGBA")).convert("RGB")
    wanted = np.asarray(laid if drawn_as == "RGB" else source.convert("RGBA"))
    outside, inside = np.asarray(mask) == 0, np.asarray(feathered(mask)) == 255
    assert (np.asarray(pasted)[outside] == wanted[outside]).all()
    assert (np.asarray(pasted)[inside] == np.asarray(drawn)[inside]).all()


def test_the_colour_of_what_is_transparent_does_not_shine_through():
    mask = Image.new("L", SIZE, 0)
    mask.paste(255, (10, 0, 64, 48))
    clear, red = Image.new("RGBA", SIZE, (0, 255, 0, 0)), Image.new("RGBA", SIZE, "red")
    row = np.asarray(Region(clear, mask).paste(red))[24, 10 : 10 + FEATHER]
    assert (np.diff(row[:, 3].astype(int)) > 0).all()
    assert (row[:, 0] > 250).all()
    assert (row[:, 1] < 5).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_region_that_is_drawn_larger_is_padded_and_not_scaled(mode):
    """A part at a border is redrawn up to it and beyond, and begins at its inner edges alone."""
    source, mask = noisy(mode, SIZE, 4), Image.new("L", SIZE, 0)
    mask.paste(255, (40, 20, *SIZE))
    region = Region(source, mask)
    width, height = SIZE
    larger = region.within((width + 16, height + 32))
    assert larger.source.size == larger.mask.size == (width + 16, height + 32)
    for one, before in ((larger.source, source), (larger.mask, mask)):
        assert cut(one, SIZE).tobytes() == before.tobytes()
        values = np.asarray(one)
        assert (values[:17, :9] == values[16, 8]).all()
        assert (values[-17:, -9:] == values[-17, -9]).all()
    assert (np.asarray(larger.mask)[-16:, -8:] == 255).all()
    assert region.within(SIZE) is region
    # What was drawn is cut before: its borders are those of the picture that was asked for.
    red = Image.new(mode, SIZE, "red")
    pasted = np.asarray(region.paste(red))
    assert (pasted[-1, -FEATHER:] == np.asarray(red)[-1, -FEATHER:]).all()
    assert (pasted[np.asarray(mask) == 0] == np.asarray(source)[np.asarray(mask) == 0]).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_around_a_picture_its_outermost_pixels_go_on(mode):
    source = noisy(mode, (20, 10), 3)
    region = around(source, (4, 6), (30, 22))
    values = np.asarray(region.source)
    assert (values[6:16, 4:24] == np.asarray(source)).all()
    assert (values[0, :5] == values[6, 4]).all()
    assert (values[6:16, 29] == values[6:16, 23]).all()
    assert region.mask.size == region.source.size == (30, 22)
    assert (np.asarray(region.mask)[6:16, 4:24] == 0).all()
    assert int((np.asarray(region.mask) == 255).sum()) == 30 * 22 - 20 * 10
