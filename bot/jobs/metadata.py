"""The text inside each PNG: how to draw it again."""

from __future__ import annotations

import json
from typing import Any

from bot.jobs.request import ImageRequest


def png_texts(job_id: str, request: ImageRequest, model: str) -> tuple[dict[str, str], ...]:
    """Return the PNG text chunks of each picture of a batch.

    "parameters" is AUTOMATIC1111's form, which image viewers and other tools read; "request" is
    JSON and draws this one picture again.
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
    lines = [request.prompt + loras]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    lines.append(
        f"Steps: {request.steps}, Sampler: Euler, CFG scale: {request.guidance:g}, Seed: {seed}, "
        f"Size: {request.width}x{request.height}, Model: {model}"
    )
    return "\n".join(lines)


def _json(job_id: str, request: ImageRequest, model: str, position: int) -> str:
    values: dict[str, Any] = json.loads(request.to_json())
    return json.dumps(
        {**values, "job_id": job_id, "position": position, "model": model}, ensure_ascii=False
    )
