"""Response times of `/imagine` while the engine works: `python -m bot bench response`.

The bot runs in this process with the real tiny engine as its child; the sandbox and its users in
another. Times run from INTERACTION_CREATE sent to the callback received, as Discord would see them.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

from bot.app.app import App
from bot.config.settings import load_settings
from bot.errors import BotError
from bot.logs import set_up_logging

_PATIENCE_S = 600.0


async def next_event(process: Process, event: str) -> dict[str, Any]:
    """Return the crowd's next line about `event`; raise `BotError` when its process ends."""
    assert process.stdout is not None
    while line := await process.stdout.readline():
        values: dict[str, Any] = json.loads(line)
        if values["event"] == event:
            return values
    raise BotError("The sandbox's process ended early.")


def go(process: Process) -> None:
    """Tell the crowd to go on."""
    assert process.stdin is not None
    process.stdin.write(b"\n")


def percentile(values: list[float], share: float) -> float:
    """Return the value that `share` (0 to 1) of `values` do not exceed."""
    return sorted(values)[min(len(values) - 1, round(share * (len(values) - 1)))]


async def _time_to_ready(crowd: Process, api_url: str, data: Path) -> float:
    """Return the seconds from starting `python -m bot run` to its READY."""
    environment = os.environ | {
        "DISCORD_TOKEN": "",
        "DISCORD_API_URL": api_url,
        "DATA_DIR": str(data / "start"),
        "IMAGE_MODEL_NAME": "tiny",
        "LOG_LEVEL": "ERROR",
    }
    began = time.perf_counter()
    bot = await asyncio.create_subprocess_exec(sys.executable, "-m", "bot", "run", env=environment)
    try:
        await next_event(crowd, "online")
        return time.perf_counter() - began
    finally:
        bot.send_signal(signal.SIGTERM)
        await bot.wait()


async def bench_response(count: int, *, buttons: bool = False) -> dict[str, Any]:
    """Run the benchmark; return its figures (seconds, milliseconds of CPU, commits).

    With `buttons` the users use every control under finished pictures by turns; each has its
    figures, too.
    """
    set_up_logging("ERROR")
    command = [sys.executable, "-m", "bot.lab.bench.crowd", str(count)]
    command += ["--buttons"] if buttons else []
    crowd = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=2**24)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        try:
            address = await next_event(crowd, "address")
            ready_s = await _time_to_ready(crowd, address["api_url"], data)
            return {"start_to_ready_s": round(ready_s, 3)} | await _pressed(
                crowd, address["api_url"], data, count
            )
        finally:
            go(crowd)
            await crowd.wait()


async def _pressed(crowd: Process, api_url: str, data: Path, count: int) -> dict[str, Any]:
    settings = load_settings(
        discord_token=None,
        discord_api_url=api_url,
        data_dir=data / "bot",
        image_model_name="tiny",
        image_models="tiny-edit",
        limit_open_jobs=count,
        limit_images_per_day=count * 4,
        limit_queue_size=count * 4,
        limit_server_queue_size=0,
        limit_gpu_seconds_per_day=0,
    )
    app = App(settings, guild_ready_timeout=0.01)
    run = asyncio.create_task(app.run())
    async with asyncio.timeout(_PATIENCE_S):
        await app.ready.wait()
        database = app.client.services.database
        cpu, commits, began = time.process_time(), database.commits, time.perf_counter()
        go(crowd)
        result = await next_event(crowd, "result")
        wall = time.perf_counter() - began
        cpu, commits = time.process_time() - cpu, database.commits - commits
        drawn = await database.read(
            lambda tx: tx.value("SELECT count(*) FROM jobs WHERE state = 'generated'")
        )
        app.stop()
        await run
    seconds: list[float] = result["seconds"]
    by: dict[str, list[float]] = result.get("by", {})
    figures: dict[str, Any] = {
        "interactions": len(seconds),
        "unanswered": result["lost"],
        "response_p50_ms": round(1000 * statistics.median(seconds), 1),
        "response_p99_ms": round(1000 * percentile(seconds, 0.99), 1),
        "response_max_ms": round(1000 * max(seconds), 1),
        "bot_cpu_ms_per_job": round(1000 * cpu / len(seconds), 2),
        "commits_per_job": round(commits / len(seconds), 2),
        "wall_s": round(wall, 1),
        "pictures_drawn_meanwhile": drawn,
        "load": [round(load, 1) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }
    return figures | ({"by_control": _by_control(by)} if by else {})


def _by_control(by: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return each control's presses, and the milliseconds of their responses."""
    return {
        name: {
            "presses": len(seconds),
            "p50_ms": round(1000 * statistics.median(seconds), 1),
            "p99_ms": round(1000 * percentile(seconds, 0.99), 1),
        }
        for name, seconds in by.items()
        if seconds
    }
