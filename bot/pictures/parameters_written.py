"""Parameters written into each PNG: the text that says how to draw it again."""

from __future__ import annotations

import json
import re
from typing import Any, Final

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


def _parameters(request: ImageRequest, seed: int, model: str) -> str:
    loras = "".join(f" <lora:{name}:{weight:g}>" for name, weight in request.lora_strengths())
    lines = [_harmless(request.full_prompt) + loras]
    if request.full_negative_prompt:
        lines.append(f"Negative prompt: {_harmless(request.full_negative_prompt)}")
    shift = "" if request.shift is None else f", Shift: {request.shift:g}"
    strength = ""
    if request.input_image is not None and request.strength is not None:
        strength = f", Denoising strength: {request.strength:g}"
    lines.append(
        f"Steps: {request.steps}, Sampler: Euler, CFG scale: {request.guidance:g}, Seed: {seed}, "
        f"Size: {request.width}x{request.height}, Model: {model}{shift}{strength}"
    )
    return "\n".join(lines)


def _harmless(text: str) -> str:
    return _LORA.sub("< ", _LINE_OF_THE_FORM.sub(r"\1\2\3 :", text))


def _json(job_id: str, request: ImageRequest, model: str, position: int) -> str:
    values: dict[str, Any] = json.loads(request.to_json())
    return json.dumps(
        {**values, "job_id": job_id, "position": position, "model": model}, ensure_ascii=False
    )
