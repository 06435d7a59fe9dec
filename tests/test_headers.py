"""Sizes and comments in pictures' headers: Pillow's files read right, crafted ones do no harm."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bot.client.attachments import _checked
from bot.errors import InvalidRequest
from bot.pictures.headers import exif_comment, picture_kind, picture_size
from bot.pictures.parameters_read import read_parameters
from tests.engine.test_inputs import bomb, chunk, saved

LIMIT = 1000


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


@given(st.sampled_from(["PNG", "GIF", "JPEG", "WEBP"]), st.data())
def test_damage_does_no_harm(kind, data):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0a cat"
    options = {"exif": exif} if kind in {"JPEG", "WEBP"} else {}
    picture = bytearray(saved(Image.new("RGB", (9, 9)), kind, **options))
    for _ in range(data.draw(st.integers(0, 8))):
        picture[data.draw(st.integers(0, len(picture) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(picture[: data.draw(st.integers(0, len(picture)))])
    picture_size(cut)
    comment = exif_comment(cut, LIMIT)
    assert comment is None or len(comment) <= LIMIT
    read_parameters(cut)


def test_many_packed_texts_stay_within_their_bound():
    """Ten thousand chunks that unpack to 256 KiB each would be 2.5 GB."""
    body = zlib.compress(b"x" * 2**18, 9)
    texts = (chunk(b"zTXt", f"n{number}".encode() + b"\0\0" + body) for number in range(5000))
    program = (
        "import resource, sys; from bot.pictures.parameters_read import read_parameters;"
        "resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28));"
        "sys.exit(read_parameters(sys.stdin.buffer.read()) is not None)"
    )
    data = b"\x89PNG\r\n\x1a\n" + b"".join(texts)
    done = subprocess.run([sys.executable, "-c", program], input=data, check=False, timeout=50)
    assert done.returncode == 0


def test_the_bots_process_reads_no_stranger_file_with_pillow():
    program = "import sys, bot.pictures.parameters_read, bot.client.attachments; sys.exit('PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=50)
    assert done.returncode == 0
