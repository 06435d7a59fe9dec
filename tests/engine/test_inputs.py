"""Pictures to start from: anyone may have made the file."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from bot.engine.child.inputs import PIXELS_LIMIT, read_input
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
