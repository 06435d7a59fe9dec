"""Bursts of requests while the engine draws: `python -m bot bench burst`.

The whole bot runs in this process, a sandbox and its users in another. The engine only waits, so
what is lost of its rate is lost to the requests. The queue is open to all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any, Final

from bot.app.app import App
from bot.config.settings import Settings, load_settings
from bot.lab.bench.cost import ReadyEngine, ready_picture
from bot.lab.bench.response import go, next_event, percentile
from bot.logs import set_up_logging

_PATIENCE_S: Final = 600.0
_IDLE_JOBS: Final = 20
"""Jobs that wait while the rate without a burst is measured."""


async def bench_burst(options: argparse.Namespace) -> dict[str, Any]:
    """Run the benchmark; return its figures (seconds, pictures a second, counts)."""
    set_up_logging("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        # On the disk of the bot's own data: the engine links it into place.
        picture, preview = await asyncio.to_thread(ready_picture, data)
        engine = ReadyEngine("ready", picture, preview, options.seconds)
        figures = await _with_crowd(options, data, engine)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    return figures


async def _with_crowd(
    options: argparse.Namespace, data: Path, engine: ReadyEngine
) -> dict[str, Any]:
    command = [sys.executable, "-m", "bot.lab.bench.crowd", str(options.requests)]
    command += ["--within", str(options.within), "--before", str(_IDLE_JOBS)]
    crowd = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=2**24)
    try:
        address = await next_event(crowd, "address")
        settings = _settings(options, address["api_url"], data)
        app = App(settings, engines=[engine], guild_ready_timeout=0.01)
        run = asyncio.create_task(app.run())
        async with asyncio.timeout(_PATIENCE_S):
            await app.ready.wait()
            figures = await _measured(app, crowd)
            go(crowd)
            await next_event(crowd, "result")
            began = time.perf_counter()
            app.stop()
            await run
            figures["stop_s"] = round(time.perf_counter() - began, 2)
        go(crowd)
        return figures
    finally:
        if crowd.returncode is None:
            crowd.kill()
        await crowd.wait()


def _settings(options: argparse.Namespace, api_url: str, data: Path) -> Settings:
    most = options.requests + _IDLE_JOBS
    return load_settings(
        discord_token=None,
        discord_api_url=api_url,
        data_dir=data,
        image_model_name="tiny",
        limit_open_jobs=most,
        limit_images_per_day=4 * most,
        limit_cooldown_seconds=0,
        limit_queue_size=options.queue,
        limit_server_queue_size=0,
        limit_gpu_seconds_per_day=0,
    )


async def _measured(app: App, crowd: Process) -> dict[str, Any]:
    database = app.client.services.database

    async def drawn() -> int:
        return await database.read(
            lambda tx: tx.value("SELECT count(*) FROM jobs WHERE state = 'generated'")
        )

    go(crowd)
    await next_event(crowd, "waiting")
    began, before = time.perf_counter(), await drawn()
    await next_event(crowd, "drawn")
    idle = (await drawn() - before) / (time.perf_counter() - began)
    began, before, cpu = time.perf_counter(), await drawn(), time.process_time()
    go(crowd)
    result = await next_event(crowd, "decided")
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    during = (await drawn() - before) / wall
    accepted = await database.read(lambda tx: tx.value("SELECT count(*) FROM jobs")) - _IDLE_JOBS
    seconds: list[float] = result["seconds"]
    return {
        "requests": len(seconds) + result["lost"],
        "unanswered": result["lost"],
        "accepted": accepted,
        "wall_s": round(wall, 1),
        "decided_a_second": round(len(seconds) / wall, 1),
        "response_p50_ms": round(1000 * percentile(seconds, 0.5), 1),
        "response_p99_ms": round(1000 * percentile(seconds, 0.99), 1),
        "response_max_ms": round(1000 * max(seconds), 1),
        "bot_cpu_ms_a_request": round(1000 * cpu / (len(seconds) + result["lost"]), 2),
        "idle_pictures_a_second": round(idle, 2),
        "burst_pictures_a_second": round(during, 2),
        "share_of_idle": round(during / idle, 2),
    }
