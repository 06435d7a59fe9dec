"""Parameters in a picture file: what it says about how it was made, no pixel being unpacked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from bot.pictures.exif import TooLongError
from bot.pictures.texts import COMMENT, PLAIN_SETTINGS, SOFTWARE, Texts, read_texts
from bot.pictures.writers import Parameters, comfy_text, parsed, pretty, told_by

T = TypeVar("T")

SHOWN_LIMIT: Final = 256 * 1024
"""The most characters that are shown of a file's parameters."""
_CONTROLS: Final = dict.fromkeys({*range(32), 127} - {9, 10})
_MIDJOURNEY: Final = "Job ID: "


def read_parameters(data: bytes) -> Parameters | None:
    """Return how a PNG, JPEG or WebP picture says it was made; None where it says nothing.

    Looks into text chunks, Exif and XMP for what this bot, AUTOMATIC1111 and its kin, ComfyUI,
    SwarmUI, InvokeAI, Fooocus, NovelAI, Draw Things and Midjourney write. A broken file gives what
    stands before its damage. Raises `TooLongError` where all there is is more than is read (4 MiB)
    or shown.
    """
    texts = read_texts(data)
    found = _found(texts)
    if found is None:
        if texts.too_long:
            raise TooLongError
        return None
    if len(found.text) > SHOWN_LIMIT:
        raise TooLongError
    # JSON may hold halves of characters, which cannot be sent, and what moves a terminal's cursor.
    text = found.text.encode("utf-8", "replace").decode().replace("\r\n", "\n")
    text = text.translate(_CONTROLS)
    return Parameters(found.program, text) if text.strip() else None


def told_by_itself(data: bytes) -> str:
    """Return what a picture's file says about how it was made, "" for nothing. Blocking."""
    try:
        found = read_parameters(data)
    except TooLongError:
        return ""
    return "" if found is None else found.text


def _found(texts: Texts) -> Parameters | None:
    text = texts.get("parameters") or texts.get(COMMENT)
    if text and '"job_id"' in texts.get("request"):
        return Parameters("", text)
    graph = _read(comfy_text, texts, "prompt")
    told = _read(told_by, texts, "parameters") or _read(told_by, texts, COMMENT)
    if told is not None:
        # Savers for ComfyUI write AUTOMATIC1111's form beside the graph.
        beside = graph is not None and told.program == "AUTOMATIC1111"
        return Parameters("ComfyUI", told.text) if beside else _named(told, texts)
    if graph is not None:
        return graph
    if "prompt" not in texts.too_long and (words := texts.get("prompt")):
        lines = [f"{name}: {texts.get(name)}" for name in PLAIN_SETTINGS if texts.get(name)]
        return Parameters("", "\n".join([words, *lines]))
    for name in ("invokeai_metadata", "sd-metadata", "Dream"):
        if (laid_out := _read(_laid_out, texts, name)) is not None:
            return Parameters("InvokeAI", laid_out)
    if (told := _read(told_by, texts, "Comment")) is not None:
        return _named(told, texts)
    if _MIDJOURNEY in texts.get("Description"):
        return Parameters("Midjourney", texts.get("Description"))
    # Whatever else stands where parameters do.
    return Parameters("", text) if text and not texts.too_long else None


def _read(reader: Callable[[str], T | None], texts: Texts, name: str) -> T | None:
    """Return what a reader makes of a text; one of too many parts is noted as too long."""
    try:
        return reader(texts.get(name))
    except TooLongError:
        texts.too_long.add(name)
        return None


def _laid_out(text: str) -> str | None:
    value = parsed(text)
    return (text or None) if value is None else pretty(value)


def _named(told: Parameters, texts: Texts) -> Parameters:
    """Return parameters with the program that the file names, and the prompt where it is apart."""
    software = texts.get(SOFTWARE)
    program = told.program
    for name in ("NovelAI", "Draw Things", "Fooocus"):
        if software.startswith(name):
            program = name
    text = told.text
    if program == "NovelAI" and '"prompt"' not in text:
        text = f"{texts.get('Description')}\n{text}".strip()
    return Parameters(program, text)
