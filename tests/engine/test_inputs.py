"""Pictures to start from: anyone may have made the file."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image, ImageCms

from bot.engine.child.inputs import PIXELS_LIMIT, read_input
from bot.engine.child.references import read_reference, vae_size, vision_size
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


@pytest.mark.parametrize(
    ("size", "vae", "seen"),
    [
        ((1024, 1024), (1024, 1024), (384, 384)),
        ((1344, 768), (1344, 768), (512, 288)),
        ((3000, 2000), (1248, 832), (480, 320)),
        ((100, 301), (576, 1792), (224, 672)),  # scaled up too
        ((36, 1), (6144, 160), (2304, 64)),
        ((1, 1), (1024, 1024), (384, 384)),
    ],
)
def test_a_reference_has_the_sizes_of_the_authors(size, vae, seen) -> None:
    assert (vae_size(size), vision_size(size)) == (vae, seen)
    assert vae_size(size[::-1]) == vae[::-1]
    assert vision_size(size[::-1]) == seen[::-1]


def test_a_reference_is_whole_upright_in_srgb_and_on_white(tmp_path) -> None:
    picture = Image.new("RGBA", (300, 100), (255, 0, 0, 255))
    picture.paste((0, 0, 0, 0), (200, 0, 300, 100))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: its left is the upper end
    path = tmp_path / "turned.png"
    picture.save(path, exif=exif)
    reference = read_reference(path)
    assert (reference.picture.size, reference.seen.size) == ((576, 1760), (224, 672))
    for image in reference:
        assert image.mode == "RGB"
        assert image.getpixel((10, 10)) == (255, 0, 0)
        assert image.getpixel((10, image.height - 10)) == (255, 255, 255)


def test_a_reference_in_another_colour_space_is_seen_as_it_was_meant(tmp_path) -> None:
    path = tmp_path / "wide.png"
    Image.new("RGB", (64, 64), INK).save(path, icc_profile=profile(P3, 2.2))
    for image in read_reference(path):
        assert image.getpixel((5, 5)) == (218, 67, 74)


@pytest.mark.parametrize("size", [(37, 1), (1, 37), (40_000, 1000)])
def test_a_reference_that_is_too_narrow_says_so(tmp_path, size) -> None:
    path = tmp_path / "narrow.png"
    Image.new("L", size).save(path)
    with pytest.raises(EngineError) as caught:
        read_reference(path)
    assert caught.value.kind is EngineErrorKind.REFUSED
    assert "too long and narrow" in str(caught.value.sentence)


def test_a_reference_is_read_with_the_same_care(tmp_path) -> None:
    path = tmp_path / "file"
    for data, sentence in (
        (BAD["just too large"], "too many pixels"),
        (BAD["truncated jpeg"], "broken"),
    ):
        path.write_bytes(data)
        with pytest.raises(EngineError) as caught:
            read_reference(path)
        assert sentence in str(caught.value.sentence)
