"""Overhead of the HTTP API over the engine's own time: `python -m bot bench http`.

The bot runs in this process with the real tiny engine as its child, the client in another. A
request's time runs from its first byte to the last one of the answer; the engine's own is what the
child reports of the same job (encoding, drawing, decoding, the PNG).
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

from bot.app.app import App
from bot.app.beside import run_beside
from bot.config.api_keys import NONE
from bot.config.settings import load_settings
from bot.errors import BotError
from bot.lab.bench.response import percentile
from bot.logs import set_up_logging
from bot.sandbox.server import Sandbox


async def bench_http(count: int) -> dict[str, Any]:
    """Ask for `count` pictures and wait for each; return the figures."""
    set_up_logging("ERROR")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with Sandbox(0) as sandbox:
            settings = load_settings(
                discord_token=None,
                discord_api_url=sandbox.api_url,
                data_dir=Path(folder),
                image_model_name="tiny",
                api_keys=NONE,
                http_host="127.0.0.1",
                http_port=0,
                limit_key_images_per_day=count * 2 + 1,
            )

            async def measure(app: App) -> None:
                figures.update(await _measured(app, count))

            await run_beside(App(settings, guild_ready_timeout=0.01), measure)
    return figures


async def _measured(app: App, count: int) -> dict[str, Any]:
    assert app.door
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot.lab.bench.caller", app.door.url, str(count), stdout=PIPE
    )
    said, _ = await client.communicate()
    if client.returncode != 0:
        raise BotError("The client failed.")
    result: dict[str, Any] = json.loads(said)
    overheads: list[float] = []
    engine: list[float] = []
    for seconds, job_id in result["waited"]:
        job = await app.client.services.queue.job(job_id)
        assert job
        engine.append(job.timings["total"])
        overheads.append(seconds - job.timings["total"] - job.timings.get("load", 0.0))
    accepted: list[float] = result["accepted"]
    return {
        "requests": count,
        "engine_p50_ms": _ms(engine, 0.5),
        "overhead_p50_ms": _ms(overheads, 0.5),
        "overhead_p99_ms": _ms(overheads, 0.99),
        "overhead_max_ms": round(1000 * max(overheads), 1),
        "overhead_share": round(statistics.median(overheads) / statistics.median(engine), 4),
        "accepted_p50_ms": _ms(accepted, 0.5),
        "accepted_p99_ms": _ms(accepted, 0.99),
    }


def _ms(seconds: list[float], share: float) -> float:
    return round(1000 * percentile(seconds, share), 1)
