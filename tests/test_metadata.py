"""What picture files say of themselves, honest and hostile ones."""

from __future__ import annotations

import io
import json
import struct
import zlib

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bot.domain.request import ImageRequest
from bot.pictures.parameters_read import read_parameters
from bot.pictures.parameters_written import png_texts


def png(texts: dict[str, str], *, packed: bool = False) -> bytes:
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text, zip=packed)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def with_comment(kind: str, comment: bytes) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = comment
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_this_bots_own(packed):
    (texts,) = png_texts("job", ImageRequest("清风 a fish", seed=5), "tiny")
    found = read_parameters(png(texts, packed=packed))
    assert found is not None
    assert found.program == ""
    assert found.text.startswith("清风 a fish")
    assert "Seed: 5" in found.text


def test_other_programs():
    a1111 = read_parameters(png({"parameters": "a cat\nSteps: 20"}))
    assert a1111 is not None
    assert (a1111.program, a1111.text) == ("AUTOMATIC1111", "a cat\nSteps: 20")
    graph = {
        "3": {"class_type": "KSampler", "inputs": {"seed": 7, "steps": 20, "model": ["4", 0]}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["4", 1]}},
    }
    comfy = read_parameters(png({"prompt": json.dumps(graph), "workflow": "{}"}))
    assert comfy is not None
    assert (comfy.program, comfy.text) == ("ComfyUI", "a cat\nseed: 7, steps: 20")
    novel = read_parameters(png({"Software": "NovelAI", "Comment": '{"steps": 28}'}))
    assert novel is not None
    assert (novel.program, novel.text) == ("NovelAI", '{\n "steps": 28\n}')


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_the_exif_comment(kind):
    text = "一只猫\nSteps: 20"
    found = read_parameters(with_comment(kind, b"UNICODE\0" + text.encode("utf-16-be")))
    assert found is not None
    assert found.text == text
    found = read_parameters(with_comment(kind, b"ASCII\0\0\0" + b"a cat"))
    assert found is not None
    assert found.text == "a cat"


def test_nothing_is_nothing():
    assert read_parameters(png({})) is None
    assert read_parameters(png({"Title": "x"})) is None
    assert read_parameters(b"") is None
    assert read_parameters(b"\xff\xd8\xff broken") is None


def chunk(kind: bytes, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return struct.pack(">I", size) + kind + body + b"\0\0\0\0"


SIGNATURE = b"\x89PNG\r\n\x1a\n"
HOSTILE = {
    "a text that unpacks to a gigabyte": chunk(
        b"zTXt", b"parameters\0\0" + zlib.compress(b"\0" * 2**24, 9)
    ),
    "a length past the end": chunk(b"tEXt", b"parameters\0x", 2**31 - 1),
    "chunks without end": chunk(b"tEXt", b"a\0b") * 20_000,
    "a text without a name": chunk(b"tEXt", b"x"),
    "junk packed": chunk(b"zTXt", b"parameters\0\0junk"),
    "half an international text": chunk(b"iTXt", b"parameters\0\1"),
    "nested json": chunk(b"tEXt", b"prompt\0" + b"[" * 100_000),
    "json of another shape": chunk(b"tEXt", b'prompt\0{"1": 2}'),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_read_within_bounds(name):
    found = read_parameters(SIGNATURE + HOSTILE[name] + chunk(b"IEND", b""))
    assert found is None or len(found.text) <= 2**18
