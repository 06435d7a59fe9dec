"""Texts by the model's own text encoder, between pictures: `python -m bot bench write FOLDER`.

For each budget the engine's own child draws, writes, and draws again, as it does for the bot.
Without the model's files, `--random` writes random ones: what they say is noise, at the same speed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bot.engine.options import EngineOptions
from bot.engine.parent.process import EngineProcess
from bot.engine.protocol import EngineRequest, Finished, Request, Step, WriteRequest, Written
from bot.errors import BotError
from bot.lab.bench.picture import (
    PATIENT,
    draw_job,
    noise_pictures,
    picture_request,
    write_random_files,
)

_SYSTEM: Final = "You rewrite what somebody wants to see, as a prompt."
_LINE: Final = "a lighthouse at night, the sea below, and a sign that says HELLO. "
_SHORT: Final = "a lighthouse at night"
_PICTURE: Final = "1024x1024"


def run(options: argparse.Namespace) -> int:
    """Measure and print; return how many budgets failed."""
    write_random_files(options)
    figures: dict[str, Any] = {}
    failed = 0
    for budget in map(float, options.budgets.split(",")):
        name = f"{budget:g}"
        settings = EngineOptions(options.folder, precision=options.precision, vram_gb=budget)
        try:
            figures[name] = asyncio.run(_measured(name, settings, options))
        except BotError as error:
            failed += 1
            figures[name] = {"failed": str(error)}
            _say(f"{name}: {error}")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return failed


async def _measured(
    name: str, settings: EngineOptions, options: argparse.Namespace
) -> dict[str, Any]:
    engine = EngineProcess(options.model, options=settings, limits=PATIENT)
    figures: dict[str, Any] = {"loading": {}, "texts": []}
    with tempfile.TemporaryDirectory() as folder:
        seen = noise_pictures(Path(folder), _PICTURE) if options.picture else ()
        draw = picture_request(Path(folder), "picture", options.steps, 1, options)
        short = WriteRequest("short", _SYSTEM, _SHORT, max_tokens=8)
        long = WriteRequest("long", _SYSTEM, "", max_tokens=options.tokens)
        long = replace(long, prompt=(_LINE * options.letters)[: options.letters])
        asked = [short, long, long, replace(long, temperature=0.7)]
        if seen:
            asked.append(replace(long, job_id="seen", prompt=_SHORT, references=seen))
        try:
            await draw_job(engine, Path(folder), options, figures["loading"])
            for request in asked:
                found = await _written(engine, request, draw)
                figures["texts"].append(found)
                _say(f"    {name} {json.dumps(found)}")
        finally:
            await engine.close()
    return figures


async def _written(
    engine: EngineProcess, request: WriteRequest, draw: EngineRequest
) -> dict[str, Any]:
    """Write, then draw; return the seconds of both, from the asking on.

    `tokens_a_second` are those of writing, the first pass over the question among it.
    """
    began = time.perf_counter()
    tokens = 0
    found: dict[str, Any] = {"pictures": len(request.references)}
    async for event in engine.generate(request):
        if isinstance(event, Written):
            if not tokens:
                found["first_told_s"] = round(time.perf_counter() - began, 3)
            tokens = event.tokens
        elif isinstance(event, Finished):
            found["seconds"] = {key: round(value, 3) for key, value in event.timings.items()}
            found["tokens_a_second"] = round(tokens / event.timings["write"], 1)
            found["peak_gpu_gib"] = round((event.peak_gpu_bytes or 0) / 2**30, 2)
    found["tokens"] = tokens
    found["first_step_s"] = round(await _first_step(engine, draw) - began, 3)
    return found


async def _first_step(engine: EngineProcess, request: Request) -> float:
    """Draw all of a picture; return when its first step was done."""
    done = 0.0
    async for event in engine.generate(request):
        if isinstance(event, Step) and not done:
            done = time.perf_counter()
    return done


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
