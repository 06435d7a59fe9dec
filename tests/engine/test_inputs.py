"""Pictures to start from: anyone may have made the file."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw

from bot.engine.child.inputs import PIXELS_LIMIT, read_input
from bot.engine.child.masks import read_mask, redrawn
from bot.engine.child.region import FEATHER, Region, around, feathered
from bot.errors import EngineError, EngineErrorKind

SIZE = (64, 48)


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    crc = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that claims to be enormous."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 2**20, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


GOOD = {
    "png": saved(Image.new("RGB", (90, 120), "teal")),
    "jpeg": saved(Image.new("RGB", (90, 120), "teal"), "JPEG"),
    "webp": saved(Image.new("RGB", (90, 120), "teal"), "WEBP"),
    "gif": saved(
        Image.new("RGB", (90, 120), "teal"),
        "GIF",
        save_all=True,
        append_images=[Image.new("RGB", (90, 120))],
    ),
    "grey": saved(Image.new("L", (90, 120), 60)),
    "palette": saved(Image.new("P", (90, 120))),
    "sixteen bits": saved(Image.new("I;16", (90, 120), 300)),
    "cmyk": saved(Image.new("CMYK", (90, 120)), "JPEG"),
    "one pixel": saved(Image.new("RGB", (1, 1))),
}
BAD = {
    "empty": b"",
    "text": b"hello",
    "truncated": GOOD["png"][:60],
    "truncated jpeg": GOOD["jpeg"][:200],
    "bomb": bomb(60000, 60000),
    "just too large": bomb(10000, PIXELS_LIMIT // 10000 + 1),
    "short of rows": bomb(4000, 4000),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "no size": bomb(0, 0),
}


@pytest.mark.parametrize("name", GOOD)
def test_pictures_of_every_kind_are_read(tmp_path, name):
    path = tmp_path / "input"
    path.write_bytes(GOOD[name])
    picture = read_input(path, SIZE)
    assert (picture.size, picture.mode) == (SIZE, "RGB")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_the_jobs_own_fault(tmp_path, name):
    path = tmp_path / "input"
    path.write_bytes(BAD[name])
    with pytest.raises(EngineError) as caught:
        read_input(path, SIZE)
    assert caught.value.kind is EngineErrorKind.REFUSED
    assert caught.value.sentence is not None
    assert caught.value.sentence.startswith("The picture")
    assert str(tmp_path) not in caught.value.sentence


def test_a_turned_picture_stands_upright_and_glass_lies_on_white(tmp_path):
    path = tmp_path / "input"
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # Turned by 90 degrees to the right.
    path.write_bytes(saved(image, "JPEG", exif=exif, quality=95))
    upright = read_input(path, (20, 40))
    assert upright.getpixel((10, 5))[2] > 200
    assert upright.getpixel((10, 35))[0] > 200
    path.write_bytes(saved(Image.new("RGBA", (20, 20), (0, 0, 0, 0))))
    assert read_input(path, (20, 20)).getpixel((10, 10)) == (255, 255, 255)


@pytest.mark.parametrize("damage", [b"II*\0\xff", b"MM\0*" + b"\xff" * 40, b"junk"])
def test_a_broken_exif_leaves_the_picture(tmp_path, damage):
    path = tmp_path / "input"
    path.write_bytes(saved(Image.new("RGB", (40, 20), "red"), exif=b"Exif\0\0" + damage))
    assert read_input(path, (20, 40)).getpixel((10, 10)) == (255, 0, 0)


def wide(colour_type: int, *pixels: tuple[int, ...], key: tuple[int, ...] = ()) -> bytes:
    """A row of PNG with 16 bits a channel, and perhaps a colour that stands for transparency."""
    head = struct.pack(">IIBBBBB", len(pixels), 1, 16, colour_type, 0, 0, 0)
    row = b"\0" + b"".join(struct.pack(f">{len(pixel)}H", *pixel) for pixel in pixels)
    texts = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key else b""
    parts = chunk(b"IHDR", head) + texts + chunk(b"IDAT", zlib.compress(row))
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IEND", b"")


SHADES = (0, 255, 256, 0x8012, 0xFF00, 0xFFFF)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (wide(0, *((v,) for v in SHADES)), [v >> 8 for v in SHADES]),
        (wide(0, *((v,) for v in SHADES), key=(0x8012,)), [0, 0, 1, 255, 255, 255]),
        (wide(2, *((v, v, v) for v in SHADES)), [v >> 8 for v in SHADES]),
        (wide(2, *((v, v, v) for v in SHADES), key=(0x8012,) * 3), [0, 0, 1, 255, 255, 255]),
        (wide(4, *((v, 0xFFFF) for v in SHADES)), [v >> 8 for v in SHADES]),
        (wide(6, *((v, v, v, 0) for v in SHADES)), [255] * len(SHADES)),
    ],
    ids=["grey", "grey, one shade clear", "colour", "one colour clear", "grey+alpha", "alpha"],
)
def test_of_sixteen_bits_the_upper_eight_count(tmp_path, data, expected):
    path = tmp_path / "input"
    path.write_bytes(data)
    picture = read_input(path, (len(SHADES), 1))
    assert [picture.getpixel((x, 0)) for x in range(len(SHADES))] == [(v, v, v) for v in expected]


# The primaries and the white of Display P3 and of Adobe RGB (1998), as XYZ in D50.
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))


def profile(columns, gamma: float, space: bytes = b"RGB ") -> bytes:
    """An ICC profile of three primaries and a gamma (ICC.1:2022), or of grey and a gamma."""

    def number(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {b"wtpt": b"XYZ " + bytes(4) + b"".join(map(number, (0.9642, 1.0, 0.8249)))}
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    for letter, column in zip(b"rgb", columns, strict=False):
        tags[bytes([letter]) + b"XYZ"] = b"XYZ " + bytes(4) + b"".join(map(number, column))
        tags[bytes([letter]) + b"TRC"] = curve
    return icc(tags, b"mntr" + space + b"XYZ ")


def icc(tags: dict[bytes, bytes], kind: bytes) -> bytes:
    at = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value
    head = struct.pack(">I4sI", at + len(body), bytes(4), 0x02400000) + kind
    head = head.ljust(36, b"\0") + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">iii", 63190, 65536, 54061)  # white, D50
    return head.ljust(128, b"\0") + table + body


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
INK = (200, 80, 80)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    ("icc", "expected"),
    [
        (profile(P3, 2.2), (218, 67, 74)),
        (profile(ADOBE, 2.19921875), (230, 79, 79)),
        (SRGB, INK),
        (b"no profile at all", INK),
        (profile(P3, 2.2)[:200], INK),
        (profile((), 2.2, b"GRAY"), INK),  # of other pixels than these
    ],
    ids=["Display P3", "Adobe RGB", "sRGB", "junk", "cut off", "grey"],
)
def test_a_colour_profile_counts(tmp_path, kind, icc, expected):
    path = tmp_path / "input"
    options = {} if kind == "PNG" else {"quality": 100, "subsampling": 0, "lossless": True}
    for mode in ("RGB", "RGBA") if kind != "JPEG" else ("RGB",):
        image = Image.new("RGB", (48, 48), INK).convert(mode)
        path.write_bytes(saved(image, kind, icc_profile=icc, **options))
        found = read_input(path, (32, 32)).getpixel((9, 9))
        assert all(abs(a - b) <= 2 for a, b in zip(found, expected, strict=True)), found


def test_profiles_of_grey_of_palettes_of_ink_and_of_glass(tmp_path):
    path = tmp_path / "input"

    def read(image: Image.Image, icc: bytes) -> tuple[int, ...]:
        path.write_bytes(saved(image, icc_profile=icc))
        return read_input(path, (8, 8)).getpixel((4, 4))

    grey = profile((), 1.0, b"GRAY")
    assert read(Image.new("L", (8, 8), 55), grey) == (128, 128, 128)
    assert read(Image.new("I;16", (8, 8), 55 << 8), grey) == (128, 128, 128)
    assert read(Image.new("LA", (8, 8), (55, 0)), grey) == (255, 255, 255)
    palette = Image.new("RGB", (8, 8), INK).quantize(4)
    assert read(palette, profile(P3, 2.2)) == read(Image.new("RGB", (8, 8), INK), profile(P3, 2.2))
    # A press whose cyan is grey: a table of 2 x 2 x 2 x 2 colours in L*a*b*, all others black.
    ramp, unit = bytes(range(256)), struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lightness = {0: 255, 0b1000: 128}
    colours = b"".join(bytes([lightness.get(index, 0), 128, 128]) for index in range(16))
    table = bytes([4, 3, 2, 0]) + unit + ramp * 4 + colours + ramp * 3
    inks = icc({b"A2B0": b"mft1" + bytes(4) + table}, b"prtrCMYKLab ")
    path.write_bytes(saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", icc_profile=inks))
    assert read_input(path, (8, 8)).getpixel((4, 4)) == pytest.approx((119, 119, 119), abs=2)
    half = read(Image.new("RGBA", (8, 8), (*INK, 128)), profile(P3, 2.2))
    assert half == pytest.approx((236, 161, 164), abs=2)


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
