"""Parameters written into picture files: the text that says how to draw them again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from PIL import ExifTags, Image

from bot.domain.request import ImageRequest

# Readers find the parts of this form by how a line begins, and some take the first that fits.
_LINE_OF_THE_FORM: Final = re.compile(
    r"(^|[\u2028\u2029])(\s*)(Negative prompt|Steps):", re.IGNORECASE | re.MULTILINE
)
_LORA: Final = re.compile(r"<(?=lora:)", re.IGNORECASE)


def png_texts(job_id: str, request: ImageRequest, model: str) -> tuple[dict[str, str], ...]:
    """Return the PNG text chunks of each picture of a batch.

    "parameters" is AUTOMATIC1111's form, which image viewers and other tools read; "request" is
    JSON and draws this one picture again. A line of the user's that looks like a part of the former
    gets a space before its colon, so that it forges no settings; "request" has it as it was typed.
    """
    return tuple(
        {
            "parameters": _parameters(request, seed, model),
            "request": _json(job_id, request.with_changes(seed=seed, count=1), model, position),
        }
        for position, seed in enumerate(request.seeds())
    )


def exif_of(texts: Mapping[str, str]) -> bytes:
    """Return such texts as Exif, for pictures that are no PNG; nothing where there are none.

    "parameters" is the UserComment in UTF-16, as AUTOMATIC1111 writes it; "request" stands in Make
    behind its name, as ComfyUI puts its graphs there.
    """
    exif = Image.Exif()
    if parameters := texts.get("parameters"):
        comment = b"UNICODE\0" + parameters.encode("utf-16-be")
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    if request := texts.get("request"):
        # In ASCII, as the tag is to be.
        exif[ExifTags.Base.Make] = f"request:{json.dumps(json.loads(request))}"
    return exif.tobytes() if parameters or request else b""


def _parameters(request: ImageRequest, seed: int, model: str) -> str:
    loras = "".join(f" <lora:{name}:{weight:g}>" for name, weight in request.lora_strengths())
    lines = [_harmless(request.full_prompt) + loras]
    if request.full_negative_prompt.strip():
        lines.append(f"Negative prompt: {_harmless(request.full_negative_prompt)}")
    shift = "" if request.shift is None else f", Shift: {request.shift:g}"
    norm = ", CFG norm: on" if request.cfg_norm else ""
    background = ", Background: transparent" if request.transparent else ""
    reuse = f", Reuse: {request.reuse:g}" if request.reuse else ""
    strength = ""
    drawn_over = request.input_image is not None and not request.references
    if drawn_over and request.strength is not None:
        strength = f", Denoising strength: {request.strength:g}"
    lines.append(
        f"Steps: {request.steps}, Sampler: Euler, CFG scale: {request.guidance:g}, Seed: {seed}, "
        f"Size: {request.width}x{request.height}, Model: {model}{shift}{norm}{reuse}"
        f"{background}{strength}"
    )
    return "\n".join(lines)


def _harmless(text: str) -> str:
    return _LORA.sub("< ", _LINE_OF_THE_FORM.sub(r"\1\2\3 :", text))


def _json(job_id: str, request: ImageRequest, model: str, position: int | None = None) -> str:
    values: dict[str, Any] = {**json.loads(request.to_json()), "job_id": job_id}
    # Of files that stay here, no more than that there were any: a hash would tell whoever has the
    # same picture that it was this one.
    values["input_image"] = None if request.input_image is None else "input"
    values["mask"] = None if request.mask is None else "mask"
    values["references"] = [f"reference{n}" for n in range(1, len(request.references) + 1)]
    if position is not None:
        values["position"] = position
    return json.dumps({**values, "model": model}, ensure_ascii=False)
