"""What fuzzing tries: each reader of bytes that strangers or the engine's child may have made.

A target raises for an input that its reader treats wrongly: with an exception that its docstring
does not name, with a result past its bounds, or with none in time.
"""

from __future__ import annotations

import asyncio
import io
import json
import struct
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from bot.catalogue.lora_family import made_for
from bot.catalogue.lora_layers import QWEN_IMAGE, QWEN_IMAGE_21
from bot.doctor.loras import _not_understood
from bot.doctor.model import damage
from bot.engine import frames
from bot.engine.frames import Frame, FrameError
from bot.engine.wire import read_event, read_failure
from bot.errors import EngineError, EngineErrorKind
from bot.messages.text import plain, safe
from bot.pictures.containers import picture_kind
from bot.pictures.exif import TooLongError, exif_block, orientation, read_exif
from bot.pictures.headers import picture_shape, picture_size
from bot.pictures.parameters_read import SHOWN_LIMIT, read_parameters

TEXT_LIMIT = 200


@dataclass(frozen=True)
class Target:
    """`check` takes one input; `seeds` are whole ones to begin with.

    `least` is how many inputs are tried at the least, however long they take.
    """

    check: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    least: int = 1000


def headers(data: bytes) -> None:
    size = picture_size(data)
    assert size is None or (picture_kind(data) is not None and min(size) >= 0)
    shape = picture_shape(data)
    if size is None or not all(size):
        assert shape is None
    else:
        assert sorted(shape or ()) == sorted(size)
    assert 1 <= orientation(data) <= 8
    for value in read_exif(exif_block(data)).values():
        assert len(value) <= len(data)


def metadata(data: bytes) -> None:
    try:
        found = read_parameters(data)
    except TooLongError:
        return
    assert found is None or 0 < len(found.text) <= SHOWN_LIMIT


def embedded(data: bytes) -> None:
    """Read a PNG whose text of some program is this, after the byte that chooses the program."""
    if not data:
        return
    names = (b"parameters", b"prompt", b"invokeai_metadata", b"Comment", b"sui_image_params")
    body = names[data[0] % len(names)] + b"\0" + data[1:]
    chunk = struct.pack(">I", len(body)) + b"tEXt" + body + bytes(4)
    metadata(_start_of_png() + chunk)


def embedded_texts() -> list[bytes]:
    # Laid out anew, each of the many has a line as long as the depth.
    deep = "[" * 900 + ",".join(["[]"] * 20_000) + "]" * 900
    graph = json.dumps(
        {
            "3": {"class_type": "KSampler", "inputs": {"seed": 1, "positive": ["6", 0]}},
            "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["7", 0]}},
            "7": {"class_type": "PrimitiveString", "inputs": {"value": ["6", 0]}},
        }
    )
    swarm = json.dumps({"sui_image_params": {"prompt": "a cat", "seed": 1}})
    spoken = "a cat\nNegative prompt: rain\nSteps: 4, Seed: 1"
    return [bytes([n]) + text.encode() for n in range(5) for text in (deep, graph, swarm, spoken)]


def saved(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), "teal").save(buffer, kind, **options)
    return buffer.getvalue()


@cache
def _start_of_png() -> bytes:
    return saved("PNG")[:33]


def pictures() -> list[bytes]:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = 'workflow:{"1": {}}', 'prompt:{"3": {"inputs": {"seed": 1}}}'
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "a cat\nSteps: 4".encode("utf-16-be")
    graph = {
        "3": {"class_type": "KSampler", "inputs": {"seed": 1, "positive": ["6", 0]}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["7", 0]}},
        "7": {"class_type": "PrimitiveString", "inputs": {"value": "a cat"}},
    }
    texts: list[dict[str, str]] = [
        {"parameters": "a cat\nNegative prompt: rain\nSteps: 4, Seed: 1"},
        {"parameters": json.dumps({"sui_image_params": {"prompt": "a cat"}})},
        {"prompt": json.dumps(graph), "workflow": "{}"},
        {"invokeai_metadata": json.dumps({"positive_prompt": "a cat"})},
        {"Comment": json.dumps({"steps": 4}), "Software": "NovelAI", "Description": "a cat"},
    ]
    found = [saved("GIF"), saved("WEBP", exif=exif), saved("WEBP", lossless=True)]
    found += [saved("JPEG", exif=exif), saved("JPEG", progressive=True), saved("PNG", exif=exif)]
    for packed in (False, True):
        for entries in texts:
            info = PngImagePlugin.PngInfo()
            for name, text in entries.items():
                info.add_text(name, text, zip=packed)
            info.add_itxt("Title", "猫", zip=packed)
            found.append(saved("PNG", pnginfo=info))
    return found


class _Received(asyncio.StreamReader):
    """A stream that holds all its bytes, and so is read without an event loop's help."""

    def __init__(self, data: bytes) -> None:
        super().__init__(loop=_loop())
        self.feed_data(data)
        self.feed_eof()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def engine_frames(data: bytes) -> None:
    """Read frames by both readers, and each frame as an event and as a failure."""
    blocking = io.BytesIO(data)
    with suppress(FrameError):
        reader = _Received(data)
        while (frame := _loop().run_until_complete(frames.read_frame(reader))) is not None:
            assert frames.read_frame_blocking(blocking) == frame
            assert frames.decode(frames.encode(frame)[4:]) == frame
            _one_frame(frame)


def _one_frame(frame: Frame) -> None:
    error = read_failure(EngineErrorKind.REFUSED, frame)
    assert len(error.detail) < 2 * len(frame.header) + 1000
    with suppress(FrameError):
        read_event(frame)


def spoken_frames() -> list[bytes]:
    said: list[Frame] = [
        Frame({"type": "loading", "stage": "text encoder", "fraction": 0.5}),
        Frame({"type": "loaded", "model": "m", "device": "d", "seconds": 1.5, "imports_s": 0}),
        Frame(
            {
                "type": "finished",
                "timings": {"total": 2.0},
                "peak_gpu_bytes": None,
                "card_use": {
                    "budget": 2**33,
                    "bound": "what is free",
                    "foreign": 2**30,
                    "blocks": 60,
                    "resident": 30,
                    "pinned": 0,
                    "pin_wanted": 2**32,
                    "pin_refused": True,
                    "uncompiled": "Triton is missing",
                },
            }
        ),
        Frame({"type": "step", "index": 1, "total": 4}),
        Frame({"type": "preview", "step": 1}, saved("JPEG")),
        Frame(
            {"type": "picture", "index": 0, "path": "/a/0.png", "seed": 1, "width": 9, "height": 7}
        ),
        Frame({"type": "finished", "timings": {"draw": 1.0}, "peak_gpu_bytes": None}),
        Frame({"type": "failed", "detail": "d", "sentence": "s {a}", "values": {"a": "b"}}),
    ]
    single = [frames.encode(frame) for frame in said]
    return [*single, b"".join(single)]


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    memory = Path("/dev/shm")  # a file there costs no disk
    return tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)


def scratch() -> Path:
    return Path(_folder().name)


@cache
def _layouts() -> Any:
    from tests.fuzz.small_layouts import layouts

    return layouts()


def lora_files(data: bytes) -> None:
    """Read a LoRA's file as the engine does, its header as the doctor and the choice do."""
    from bot.engine.stream.lora import joined_ranks
    from bot.engine.stream.lora_files import LoraFiles

    path = scratch() / "a.safetensors"
    path.write_bytes(data)
    for target in (QWEN_IMAGE, QWEN_IMAGE_21):
        said = damage(path) or _not_understood("a", path, target)
        assert said is None or "\n" not in said
    made_for(path)
    with suppress(EngineError):
        found = LoraFiles(scratch()).take([("a", 0.5)])
        joined_ranks(found, _layouts(), 2)


def assembled_loras(data: bytes) -> None:
    """Read a file in order, with tensors that belong to no LoRA of this model or to none at all."""
    from tests.fuzz.small_layouts import assembled

    lora_files(assembled(data))


def recipes() -> list[bytes]:
    pair = bytes([0, 0, 0, 2 + 16, 0, 0, 0, 1, 4 + 8, 0])  # one layer, rank 2, both sides
    return [pair, pair + bytes([0, 0, 4, 128, 0]), pair + bytes([0, 9, 0, 64, 0]), bytes(40)]


def small_loras() -> list[bytes]:
    from tests.fuzz.small_layouts import loras

    return loras()


def texts(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    shown = safe(text, TEXT_LIMIT)
    assert len(shown) <= 3 * TEXT_LIMIT + 100
    assert "@everyone" not in shown
    assert "://" not in shown
    assert "\n" not in plain(text, TEXT_LIMIT)
    assert len(plain(text, TEXT_LIMIT)) <= TEXT_LIMIT


def hostile_texts() -> list[bytes]:
    samples = [
        "@everyone",
        "<@123>",
        "[a](http://b)",
        "# big\n- a\n1. b",
        "> q",
        "a\u0301\u0301\u202eb",
    ]
    return [sample.encode() for sample in [*samples, "```x```", "||s||", "-# small\n" * 40]]


def damaged_weights(data: bytes) -> None:
    """Say of a file of weights whether it is whole, from its header and its size alone."""
    path = scratch() / "w.safetensors"
    path.write_bytes(data)
    problem = damage(path)
    assert problem is None or (problem and "\n" not in problem)


def headers_of_weights() -> list[bytes]:
    header = {"a.weight": {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]}}
    listed = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    whole = struct.pack("<Q", len(listed)) + listed + bytes(8)
    return [whole, whole[:-1], struct.pack("<Q", 2**40) + b"{}", struct.pack("<Q", 2) + b"{}"]


TARGETS = {
    "headers": Target(headers, pictures),
    "metadata": Target(metadata, pictures),
    # The deepest of its texts take 50 ms each under the fuzzer, and it likes them.
    "embedded": Target(embedded, embedded_texts, least=100),
    "frames": Target(engine_frames, spoken_frames),
    "loras": Target(lora_files, small_loras),
    "assembled": Target(assembled_loras, recipes),
    "weights": Target(damaged_weights, headers_of_weights),
    "texts": Target(texts, hostile_texts),
}
