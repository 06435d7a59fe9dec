"""Parameters in a picture file: what it says about how it was made, no pixel being unpacked."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bot.pictures.headers import exif_comment

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_TEXT_LIMIT: Final = 256 * 1024
_TEXTS_LIMIT: Final = 4 * _TEXT_LIMIT
_CHUNKS_LIMIT: Final = 10_000
# ComfyUI's graph: the words are inputs of text encoders, the rest of samplers.
_SAMPLED: Final = ("seed", "noise_seed", "steps", "cfg", "sampler_name", "scheduler", "denoise")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What was found: the program's name where it is known, and its text."""

    program: str
    text: str


def read_parameters(data: bytes) -> Parameters | None:
    """Return how a PNG, JPEG or WebP picture says it was made; None where it says nothing.

    Knows this bot's and AUTOMATIC1111's `parameters`, ComfyUI's `prompt`, and the JSON of InvokeAI
    and NovelAI. Reads at most 256 KiB of text; a broken file gives what stands before its damage.
    """
    texts = _first_texts(data) if data.startswith(_SIGNATURE) else _exif_texts(data)
    if text := texts.get("parameters"):
        ours = "request" in texts and '"job_id"' in texts["request"]
        return Parameters("" if ours else "AUTOMATIC1111", text)
    if text := texts.get("prompt"):
        return Parameters("ComfyUI", _comfy(text) or text)
    if text := texts.get("invokeai_metadata"):
        return Parameters("InvokeAI", _pretty(text))
    if text := texts.get("Comment"):
        return Parameters("NovelAI" if texts.get("Software") == "NovelAI" else "", _pretty(text))
    return None


def _first_texts(data: bytes) -> dict[str, str]:
    """Return a PNG's texts by name, until they are too many: each may claim its 256 KiB."""
    texts: dict[str, str] = {}
    room = _TEXTS_LIMIT
    for name, text in _png_texts(data):
        room -= len(text)
        if room < 0:
            break
        texts[name] = text
    return texts


def _png_texts(data: bytes) -> Iterator[tuple[str, str]]:
    at = len(_SIGNATURE)
    for _ in range(_CHUNKS_LIMIT):
        head = data[at : at + 8]
        if len(head) < 8:  # noqa: PLR2004
            return
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        body = data[at + 8 : at + 8 + length]
        if len(body) < length or kind == b"IEND":
            return
        if kind in {b"tEXt", b"zTXt", b"iTXt"} and length <= _TEXT_LIMIT:
            name, _nul, rest = body.partition(b"\0")
            text = _text(kind, rest)
            if text is not None:
                yield name.decode("latin-1"), text
        at += 12 + length


def _text(kind: bytes, rest: bytes) -> str | None:
    if kind == b"tEXt":
        return rest.decode("latin-1")
    if kind == b"zTXt":
        found = _inflated(rest[1:])
        return None if found is None else found.decode("latin-1")
    packed, rest = rest[:1] == b"\1", rest[2:]
    _language, _nul, rest = rest.partition(b"\0")
    _keyword, _nul, rest = rest.partition(b"\0")
    found = _inflated(rest) if packed else rest
    return None if found is None else found.decode("utf-8", "replace")


def _inflated(data: bytes) -> bytes | None:
    """Unpack at most the limit: a few kilobytes may claim gigabytes."""
    try:
        return zlib.decompressobj().decompress(data, _TEXT_LIMIT)
    except zlib.error:
        return None


def _exif_texts(data: bytes) -> dict[str, str]:
    comment = exif_comment(data, _TEXT_LIMIT + 8)
    if not comment:
        return {}
    # The first eight bytes name the encoding (Exif 2.32, 4.6.5), unless a writer left them out.
    code, text = comment[:8], comment[8:]
    if code.startswith(b"UNICODE"):
        # Writers disagree about the byte order; most text has its zero bytes in one half.
        big = text[::2].count(0) >= text[1::2].count(0)
        return {"parameters": text.decode("utf-16-be" if big else "utf-16-le", "replace")}
    named = code.startswith((b"ASCII\0", b"JIS\0", bytes(8)))
    return {"parameters": (text if named else comment).decode("utf-8", "replace").strip("\0")}


def _pretty(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _comfy(text: str) -> str | None:
    """Return the words and the sampler's settings of a ComfyUI graph; None where it is not one."""
    try:
        # ComfyUI writes NaN, which JSON does not have.
        nodes = json.loads(re.sub(r"\bNaN\b", "null", text))
        inputs = [node["inputs"] for node in nodes.values() if isinstance(node["inputs"], dict)]
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return None
    words = [i["text"] for i in inputs if isinstance(i.get("text"), str) and i["text"].strip()]
    settings = [
        f"{name}: {i[name]}"
        for i in inputs
        for name in _SAMPLED
        if isinstance(i.get(name), str | int | float)
    ]
    return "\n".join([*words, ", ".join(dict.fromkeys(settings))]).strip() or None
