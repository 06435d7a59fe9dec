"""Sizes and comments in pictures' headers: Pillow's files read right, crafted ones do no harm."""

from __future__ import annotations

import contextlib
import functools
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bot.client.attachments import _checked
from bot.engine.child.inputs import _upright
from bot.errors import InvalidRequest
from bot.pictures.containers import picture_kind
from bot.pictures.exif import VALUE_LIMIT, TooLongError, exif_block, read_exif
from bot.pictures.headers import picture_shape, picture_size
from bot.pictures.parameters_read import read_parameters
from tests.engine.test_inputs import bomb, chunk, saved


def gif_bomb() -> bytes:
    return b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(3) + b"\x3b"


def webp_bomb() -> bytes:
    body = bytes(4) + (16382).to_bytes(3, "little") * 2
    return b"RIFF" + bytes(4) + b"WEBPVP8X" + struct.pack("<I", 10) + body


@pytest.mark.parametrize("kind", ["PNG", "GIF", "JPEG", "WEBP"])
@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"progressive": True}, {"exif": b"x"}])
def test_sizes_are_what_pillow_says(kind, options):
    data = saved(Image.new("RGB", (91, 340), "teal"), kind, **options)
    assert picture_size(data) == (91, 340)
    assert (picture_kind(data) or "").upper() == kind


@pytest.mark.parametrize("data", [bomb(60000, 60000), gif_bomb(), webp_bomb()])
def test_a_bomb_is_refused_by_its_header(data):
    with pytest.raises(InvalidRequest, match="megapixels"):
        _checked(data, "a.png")


KINDS = ["PNG", "JPEG", "WEBP"]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description %s</rdf:RDF></x:xmpmeta>'


def turned(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def raw_profile(exif: bytes) -> PngInfo:
    """The block as ImageMagick wrote it for long."""
    info = PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{exif.hex()}\n", zip=True)
    return info


def placed(kind: str, place: str, value: int) -> bytes:
    """A picture of 40 x 20 whose orientation is noted in one of the places."""
    image = Image.new("RGB", (40, 20), "teal")
    attribute = XMP % (b'tiff:Orientation="%d"/>' % value)
    element = XMP % (b"><tiff:Orientation>%d</tiff:Orientation></rdf:Description>" % value)
    match place:
        case "exif":
            return saved(image, kind, exif=turned(value))
        case "exif before xmp":
            return saved(
                image, kind, exif=turned(value), **xmp(kind, attribute.replace(b"6", b"1"))
            )
        case "xmp":
            return saved(image, kind, **xmp(kind, attribute))
        case "xmp element":
            return saved(image, kind, **xmp(kind, element))
        case "raw profile":
            return saved(image, kind, pnginfo=raw_profile(turned(value).tobytes()))
        case _:
            return saved(image, kind, exif=turned(value).tobytes().replace(b"MM", b"XX"))


def xmp(kind: str, packet: bytes) -> dict:
    if kind != "PNG":
        return {"xmp": packet}
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet.decode(), zip=True)
    return {"pnginfo": info}


PLACES = [(kind, place) for kind in KINDS for place in ("exif", "xmp", "xmp element", "damaged")]


@pytest.mark.parametrize(
    ("kind", "place"), [*PLACES, ("PNG", "raw profile"), ("JPEG", "exif before xmp")]
)
def test_the_shape_is_that_of_the_picture_which_the_engine_sees(tmp_path, kind, place):
    for value in range(10):
        data = placed(kind, place, value)
        with Image.open(io.BytesIO(data)) as image:
            seen = _upright(image).size
        assert picture_shape(data) == seen, value
        assert picture_size(data) == (40, 20)
        assert (seen == (20, 40)) == (value in {5, 6, 7, 8} and place != "damaged")


def test_a_picture_without_pixels_has_no_shape():
    assert picture_shape(bomb(0, 5)) is None
    assert picture_shape(b"GIF89a") is None


@given(st.sampled_from(["PNG", "GIF", "JPEG", "WEBP"]), st.data())
def test_damage_does_no_harm(kind, data):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0a cat"
    exif[0x010F] = 'prompt:{"1": {"inputs": {"text": "a cat"}}}'
    exif[0x0112] = 6
    options = {"exif": exif} if kind != "GIF" else {}
    picture = bytearray(saved(Image.new("RGB", (9, 9)), kind, **options))
    for _ in range(data.draw(st.integers(0, 8))):
        picture[data.draw(st.integers(0, len(picture) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(picture[: data.draw(st.integers(0, len(picture)))])
    picture_size(cut)
    picture_shape(cut)
    values = read_exif(exif_block(cut)).values()
    assert all(len(value) <= VALUE_LIMIT + 1 for value in values)
    with contextlib.suppress(TooLongError):
        read_parameters(cut)


@functools.lru_cache(maxsize=1)
def deflated(text: bytes) -> bytes:
    return zlib.compress(text, 9)


def packed(kind: bytes, name: bytes, text: bytes) -> bytes:
    method = b"\0\0" if kind == b"zTXt" else b"\0\1\0\0\0"
    return chunk(kind, name + method + deflated(text))


def directory(entries: int) -> bytes:
    """A TIFF block of as many entries as it may claim, each as long as the file and over it."""
    tags = [0x8769, 0x9286, *range(0x010A, 0x0113)] * (entries // 11)
    rows = b"".join(struct.pack(">HHII", tag, 2, 2**32 - 1, 8) for tag in tags)
    return b"MM\0*" + struct.pack(">IH", 8, 0xFFFF) + rows + b'prompt:{"' * 500_000


# Made where they are wanted: together they take seconds.
HUGE: dict[str, Callable[[], bytes]] = {
    "ten thousand texts": lambda: b"".join(
        packed(b"zTXt", b"n%d" % number, b"x" * 2**18) for number in range(5000)
    ),
    "ten thousand texts that count": lambda: packed(b"zTXt", b"parameters", b"x" * 2**18) * 5000,
    "a text of gigabytes": lambda: packed(b"zTXt", b"prompt", b"[" * 2**26),
    "xmp of gigabytes": lambda: packed(
        b"iTXt", b"XML:com.adobe.xmp", b"<exif:UserComment>" * 2**22
    ),
    "a raw profile of gigabytes": lambda: packed(b"zTXt", b"Raw profile type exif", b"\n" * 2**26),
    "lists in lists": lambda: chunk(b"tEXt", b"prompt\0" + b"[" * 2**21),
    "a million objects": lambda: chunk(b"tEXt", b"prompt\0[" + b"{}," * 2**20 + b"{}]"),
    "one list": lambda: chunk(
        b"tEXt", b'parameters\0{"sui_image_params":[' + b"1," * 2**20 + b"1]}"
    ),
    "blank lines": lambda: packed(b"zTXt", b"parameters", b"a" + b"\n" * (VALUE_LIMIT - 2) + b"b"),
    "a long number": lambda: packed(
        b"zTXt", b"parameters", b'{"c": ' + b"9" * (2**22 - 100) + b"}"
    ),
    "a long entity": lambda: chunk(
        b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b'exif:UserComment="&#' + b"9" * 10**6 + b';"'
    ),
    "exif over itself": lambda: chunk(b"eXIf", directory(60_000)),
    "tags without an end": lambda: chunk(
        b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b'exif:UserComment="' * 2**17
    ),
}


@pytest.mark.parametrize("name", HUGE)
def test_what_claims_much_stays_within_its_bound(name):
    """A quarter of a gigabyte holds Python, the file and all that is made of it."""
    program = (
        "import resource, sys; from bot.pictures.parameters_read import *;"
        "from bot.pictures.headers import picture_shape\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (10, 10))\n"
        "data = sys.stdin.buffer.read(); picture_shape(data)\n"
        "try: assert (found := read_parameters(data)) is None or len(found.text) <= SHOWN_LIMIT\n"
        "except TooLongError: pass"
    )
    data = b"\x89PNG\r\n\x1a\n" + HUGE[name]()
    done = subprocess.run([sys.executable, "-c", program], input=data, check=False, timeout=50)
    assert done.returncode == 0


def test_the_bots_process_reads_no_stranger_file_with_pillow():
    program = "import sys, bot.pictures.parameters_read, bot.client.attachments; sys.exit('PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=50)
    assert done.returncode == 0
