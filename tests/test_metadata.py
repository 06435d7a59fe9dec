"""What picture files say of themselves, honest and hostile ones."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import zlib

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bot.domain.request import ImageRequest
from bot.pictures.exif import VALUE_LIMIT, TooLongError
from bot.pictures.parameters_read import SHOWN_LIMIT, read_parameters
from bot.pictures.parameters_written import png_texts
from bot.pictures.reencoded import reencoded
from tests.engine.test_inputs import saved

PIXELS = Image.new("RGB", (8, 8))


def info(texts: dict[str, str], *, packed: bool = False) -> PngInfo:
    chunks = PngInfo()
    for name, text in texts.items():
        chunks.add_text(name, text, zip=packed)
    return chunks


def png(texts: dict[str, str], *, packed: bool = False, **options) -> bytes:
    return saved(PIXELS, pnginfo=info(texts, packed=packed), **options)


def with_comment(kind: str, comment: bytes) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = comment
    return saved(PIXELS, kind, exif=exif.tobytes())


def read(data: bytes) -> tuple[str, str]:
    found = read_parameters(data)
    assert found is not None
    return found.program, found.text


@pytest.mark.parametrize("packed", [False, True])
def test_this_bots_own(packed):
    (texts,) = png_texts("job", ImageRequest("清风 a fish", seed=5), "tiny")
    found = read_parameters(png(texts, packed=packed))
    assert found is not None
    assert found.program == ""
    assert found.text.startswith("清风 a fish")
    assert "Seed: 5" in found.text


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_another_kind_of_file_says_the_same(kind):
    (texts,) = png_texts("job", ImageRequest("清风 a fish", seed=5), "tiny")
    noise = Image.effect_noise((64, 64), 80)
    good, bad = (reencoded(saved(noise, pnginfo=info(texts)), kind, q) for q in (100, 5))
    assert len(bad) < len(good) / 2
    assert read(good) == read(bad) == read(png(texts))


@pytest.mark.parametrize(
    ("length", "more", "program"), [(1000, 0, ""), (4000, 0, "AUTOMATIC1111"), (4000, 16000, None)]
)
def test_a_jpeg_carries_what_fits_into_a_segment(length, more, program):
    # An emoji is 4 bytes of AUTOMATIC1111's text, and 12 of the request's JSON.
    (texts,) = png_texts("job", ImageRequest("🐟" * length, "🐟" * length), "tiny")
    texts = {**texts, "parameters": texts["parameters"] + "🐟" * more}
    data = reencoded(png(texts), "jpeg", 90)
    assert Image.open(io.BytesIO(data)).size == PIXELS.size
    found = read_parameters(data)
    assert (None if found is None else found.program) == program
    assert found is None or found.text == read(png(texts))[1]


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


# How writers put a text into a UserComment: by Exif's standard, and as they understood it.
ENCODINGS = {
    "UTF-16, big": lambda text: b"UNICODE\0" + text.encode("utf-16-be"),
    "UTF-16, little": lambda text: b"UNICODE\0" + text.encode("utf-16-le"),
    "UTF-16 with a mark": lambda text: b"UNICODE\0" + text.encode("utf-16"),
    "UTF-8 that calls itself Unicode": lambda text: b"UNICODE\0" + text.encode(),
    "padded": lambda text: b"UNICODE\0" + text.encode("utf-16-le") + bytes(6),
    "UTF-8 that calls itself ASCII": lambda text: b"ASCII\0\0\0" + text.encode(),
    "UTF-16 that calls itself ASCII": lambda text: b"ASCII\0\0\0" + text.encode("utf-16-le"),
    "JIS": lambda text: b"JIS\0\0\0\0\0" + text.encode("iso2022_jp"),
    "undefined": lambda text: bytes(8) + text.encode(),
    "bare": lambda text: text.encode() + b"\0",
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_exif_comment(kind, encoding):
    for text in ("一匹の猫 in oil\nSteps: 20", "a cat\nSteps: 20, Seed: 7"):
        assert read(with_comment(kind, ENCODINGS[encoding](text))) == ("AUTOMATIC1111", text)
    if encoding != "UTF-16 that calls itself ASCII":  # No sign of it is left.
        for words in ("一匹の猫が机の上に", "一只猫在桌子上", "고양이 한 마리"):
            if encoding != "JIS" or words.startswith("一匹"):
                assert read(with_comment(kind, ENCODINGS[encoding](words))) == ("", words)
    assert read(with_comment(kind, b"ASCII\0\0\0a cat")) == ("", "a cat")


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "packed iTXt"])
@pytest.mark.parametrize("code", ["utf-8", "latin-1"])
def test_a_texts_encoding_is_told_by_its_bytes(kind, code):
    text = "café, Ünïcode\nSteps: 20"
    text += ", 一只猫, 🐱" if code == "utf-8" else ""
    body = {
        "tEXt": b"parameters\0" + text.encode(code),
        "zTXt": b"parameters\0\0" + zlib.compress(text.encode(code)),
        "iTXt": b"parameters\0\0\0\0\0" + text.encode(),
        "packed iTXt": b"parameters\0\1\0en\0name\0" + zlib.compress(text.encode()),
    }[kind]
    data = saved(PIXELS)
    data = data[:33] + chunk(kind[-4:].encode(), body) + data[33:]
    assert read(data) == ("AUTOMATIC1111", text)


SWARM = '{"sui_image_params": {"prompt": "a red boat", "swarm_version": "0.9.7.0"}}'
FOOOCUS = '{"adm_guidance": "(1.5, 0.8, 0.3)", "prompt": "a boat", "version": "Fooocus v2.5.3"}'
FORM = "a boat\nNegative prompt: fog\nSteps: 20, Sampler: Euler, Seed: 5"
DRAW_THINGS = '{"c": "a boat", "uc": "fog", "seed": 5}'
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description>'
    "<xmp:CreatorTool>Draw Things</xmp:CreatorTool><exif:UserComment><rdf:Alt>"
    '<rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></exif:UserComment>'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)
PROGRAMS = [
    ({"parameters": SWARM}, "SwarmUI", "a red boat"),
    ({"parameters": FOOOCUS, "fooocus_scheme": "fooocus"}, "Fooocus", "a boat"),
    ({"parameters": f"{FORM}, Version: Fooocus v2.5.3"}, "Fooocus", "Seed: 5"),
    ({"parameters": f"{FORM}, Version: ComfyUI"}, "ComfyUI", "Seed: 5"),
    ({"parameters": f"{FORM}, Version: f2.0.1v1.10.1"}, "Forge", "Seed: 5"),
    ({"parameters": f"{FORM}, App: SD.Next, Version: 1f08"}, "SD.Next", "Seed: 5"),
    ({"parameters": f"Version: Fooocus, {FORM}"}, "AUTOMATIC1111", "Version: Fooocus, a boat"),
    ({"parameters": '{"prompt": "a boat", "my_tool": 1}'}, "", "a boat"),
    ({"parameters": "a boat"}, "", "a boat"),
    ({"parameters": FORM, "prompt": '{"1": {"inputs": {"text": "x"}}}'}, "ComfyUI", "Seed: 5"),
    ({"parameters": "words", "prompt": '{"1": {"inputs": {"text": "x"}}}'}, "ComfyUI", "x"),
    (
        {"prompt": "a boat", "negative_prompt": "fog", "seed": "5"},
        "",
        "a boat\nnegative_prompt: fog",
    ),
    ({"invokeai_metadata": '{"positive_prompt": "a boat"}'}, "InvokeAI", "a boat"),
    (
        {"sd-metadata": '{"model_weights": "sd", "image": {"prompt": "a boat"}}'},
        "InvokeAI",
        "a boat",
    ),
    ({"Dream": '"a boat" -s 50 -S 5'}, "InvokeAI", "-S 5"),
    (
        {"Software": "NovelAI", "Description": "a boat", "Comment": '{"uc": "fog"}'},
        "NovelAI",
        "a boat",
    ),
    ({"Comment": '{"prompt": "a boat", "uc": "fog", "sampler": "k"}'}, "NovelAI", "fog"),
    ({"Description": "a boat --ar 3:2 Job ID: 5-5"}, "Midjourney", "--ar 3:2"),
]


@pytest.mark.parametrize(("texts", "program", "words"), PROGRAMS)
def test_writers_are_told_apart_by_what_they_wrote(texts, program, words):
    found = read(png(texts))
    assert found[0] == program
    assert words in found[1]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_writers_in_exif_and_xmp(kind):
    assert read(with_comment(kind, b"UNICODE\0" + SWARM.encode("utf-16-be")))[0] == "SwarmUI"
    # Fooocus leaves its comment outside of the Exif directory.
    exif = Image.Exif()
    exif[0x9286], exif[0x0131] = FOOOCUS, "Fooocus v2.5.3"
    assert read(saved(PIXELS, kind, exif=exif.tobytes())) == ("Fooocus", pretty(FOOOCUS))
    packet = XMP.format(text=DRAW_THINGS.replace('"', "&quot;")) if kind == "WEBP" else ""
    packet = packet or XMP.format(text=DRAW_THINGS)
    if kind == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet)
        data = saved(PIXELS, pnginfo=info)
    else:
        data = saved(PIXELS, kind, xmp=packet.encode())
    assert read(data) == ("Draw Things", pretty(DRAW_THINGS))


def pretty(text: str) -> str:
    return json.dumps(json.loads(text), indent=1)


def test_json_is_laid_out_and_can_be_sent():
    assert read(png({"parameters": SWARM}))[1].splitlines()[2] == '  "prompt": "a red boat",'
    broken = '{"sui_image_params": {"prompt": "half \\ud83d of\\u0000 it"}}'
    text = read(png({"parameters": broken}))[1]
    assert '"half ? of' in text
    assert text.encode()


def test_jpegs_comment_counts_where_it_is_known():
    assert read(saved(PIXELS, "JPEG", comment=FORM)) == ("AUTOMATIC1111", FORM)
    assert read_parameters(saved(PIXELS, "JPEG", comment="CREATOR: gd-jpeg v1.0")) is None
    assert read_parameters(png({"Comment": "Created with GIMP"})) is None


def test_a_block_of_more_than_a_segment_is_read_whole():
    words = "a cat, " * 20_000 + "\nSteps: 20"
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + words.encode()
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    parts = [block[at : at + 65_000] for at in range(0, len(block), 65_000)]
    segments = b"".join(
        b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts
    )
    data = saved(PIXELS, "JPEG")
    assert read(data[:2] + segments + data[2:]) == ("AUTOMATIC1111", words.strip())


LONG = "x" * (SHOWN_LIMIT + 1)


@pytest.mark.parametrize(
    "data",
    [
        png({"parameters": f"{LONG}\nSteps: 20"}),
        png({"parameters": "x" * (VALUE_LIMIT + 1)}, packed=True),
        png({"prompt": f'{{"1": {{"inputs": {{"text": "{LONG}"}}}}}}'}),
        png({"prompt": json.dumps({"1": {"inputs": {"text": "x", "list": [0] * 100_001}}})}),
        png({"invokeai_metadata": json.dumps([0] * 100_001)}),
        with_comment("WEBP", b"ASCII\0\0\0" + b"x" * (VALUE_LIMIT + 1)),
    ],
    ids=["shown", "unpacked", "words", "parts", "other parts", "exif"],
)
def test_too_long_is_not_absent(data):
    with pytest.raises(TooLongError):
        read_parameters(data)


def test_what_can_be_read_beside_what_is_too_long_counts():
    graph = json.dumps({"1": {"inputs": {"text": "x", "list": [0] * 100_001}}})
    assert read(png({"prompt": graph, "parameters": FORM})) == ("AUTOMATIC1111", FORM)
    assert read(png({"prompt": "x" * (VALUE_LIMIT + 1), "parameters": FORM}, packed=True)) == (
        "AUTOMATIC1111",
        FORM,
    )


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
    with contextlib.suppress(TooLongError):
        found = read_parameters(SIGNATURE + HOSTILE[name] + chunk(b"IEND", b""))
        assert found is None or len(found.text) <= 2**18
