"""Writers of parameters, told apart by what they wrote: a name is shared by several of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final, cast

from bot.pictures.comfy import graph_of, graph_text
from bot.pictures.exif import TooLongError

# Each object or list of a JSON text costs some hundred bytes once it is read.
_PARTS_LIMIT: Final = 100_000
_STEPS: Final = re.compile(r"^[ \t]*Steps: \d", re.MULTILINE)
# Others who write AUTOMATIC1111's form say so behind the settings.
_SAME_FORM: Final = (
    ("Fooocus", re.compile(r"\bVersion: Fooocus")),
    ("ComfyUI", re.compile(r"\bVersion: ComfyUI")),
    ("Forge", re.compile(r"\bVersion: (?:f\d|neo)")),
    ("SD.Next", re.compile(r"\bApp: SD\.Next")),
    ("Civitai", re.compile(r"\bCivitai resources: ")),
)


@dataclass(frozen=True, slots=True)
class Parameters:
    """What was found: the program's name where it is known, and its text."""

    program: str
    text: str


def told_by(text: str) -> Parameters | None:
    """Return whose parameters a text is, laid out to be read; None where it is any text.

    Raises `TooLongError` for JSON of too many parts.
    """
    if _STEPS.search(text) and not text.startswith("{"):
        settings = text[text.rindex("Steps: ") :]
        program = next((name for name, mark in _SAME_FORM if mark.search(settings)), "")
        return Parameters(program or "AUTOMATIC1111", text)
    value = parsed(text)
    if not isinstance(value, dict):
        return None
    entries = cast("dict[str, Any]", value)
    return _comfy(entries) or Parameters(_program(entries), pretty(entries))


def comfy_text(text: str) -> Parameters | None:
    """Return what the JSON of a ComfyUI graph says; None where it is none."""
    value = parsed(text)
    return _comfy(parsed(value) if isinstance(value, str) else value)


def _comfy(value: object) -> Parameters | None:
    nodes = graph_of(value)
    if nodes is None and isinstance(value, dict):
        nodes = graph_of(cast("dict[str, Any]", value).get("prompt"))
    return None if nodes is None else Parameters("ComfyUI", graph_text(nodes) or pretty(nodes))


def parsed(text: str) -> object:
    """Return what JSON says, None where it is none; raise `TooLongError` for too many parts."""
    if not text.startswith(("{", "[", '"')):
        return None
    if sum(map(text.count, "{[,")) > _PARTS_LIMIT:
        raise TooLongError
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def pretty(value: object) -> str:
    """Return JSON laid out to be read."""
    try:
        return json.dumps(value, indent=1, ensure_ascii=False)
    except RecursionError:
        return ""


def _program(value: dict[str, Any]) -> str:
    """Return who writes JSON with these names in it."""
    names = value.keys()
    if "sui_image_params" in names:
        return "SwarmUI"
    said = " ".join(str(value.get(name)) for name in ("version", "software", "metadata_scheme"))
    if "fooocus" in said.casefold():
        return "Fooocus"
    if names >= {"app_version", "generation_mode"} or "model_weights" in names:
        return "InvokeAI"
    if names >= {"c", "uc"}:
        return "Draw Things"
    if names >= {"prompt", "uc", "sampler"}:
        return "NovelAI"
    return ""
