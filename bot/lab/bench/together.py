"""The whole bot while the engine loads and draws: `python -m bot bench together`.

The bot runs in this process with the engine of the settings as its child; a sandbox and three users
in another. One of them asks for six pictures, then the others for two each. It measures
first responses, the event loop's stalls, gateway heartbeats and the order of the answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any, Final

from bot.app.app import App
from bot.config.settings import load_settings
from bot.engine.protocol import EngineState
from bot.errors import BotError
from bot.lab.bench.response import go, next_event, percentile
from bot.logs import set_up_logging

_PATIENCE_S: Final = 3600.0
_PROBE_S: Final = 0.005
_BEAT_S: Final = 0.95
"""A little less than the time between two heartbeats here."""
_LOADING: Final = {EngineState.STARTING, EngineState.LOADING, EngineState.BACKOFF}


class Probe:
    """Late wake-ups of the event loop and gateway latency, by what the engine does meanwhile."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.late: dict[str, list[float]] = {"loading": [], "drawing": []}
        self.latency: list[float] = []

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = time.perf_counter() + _PROBE_S
            await asyncio.sleep(_PROBE_S)
            late = time.perf_counter() - due
            state = self._app.client.services.fleet.state
            if state in _LOADING:
                self.late["loading"].append(late)
            elif state is EngineState.BUSY:
                self.late["drawing"].append(late)
            latency = self._app.client.latency
            if latency not in self.latency[-1:]:
                self.latency.append(latency)

    def figures(self) -> dict[str, Any]:
        """Return milliseconds."""
        found: dict[str, Any] = {}
        for name, late in self.late.items():
            if late:
                found[f"{name}_s"] = round(len(late) * _PROBE_S + sum(late), 1)
                found[f"{name}_stall_p99_ms"] = round(1000 * percentile(late, 0.99), 1)
                found[f"{name}_stall_max_ms"] = round(1000 * max(late), 1)
        # discord.py notes a beat's time when its sending has returned. On one machine the answer is
        # sometimes there before, and is counted from the beat before it.
        real = [value for value in self.latency if value < _BEAT_S]
        if real:
            found["heartbeats"] = len(real)
            found["heartbeat_median_ms"] = round(1000 * statistics.median(real), 1)
            found["heartbeat_max_ms"] = round(1000 * max(real), 1)
        return found


async def bench_together(options: argparse.Namespace) -> dict[str, Any]:
    """Run the benchmark; return its figures."""
    set_up_logging("WARNING")
    command = [sys.executable, "-m", "bot.lab.bench.crowd", "10", "--quality", options.quality]
    crowd = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=2**24)
    try:
        address = await next_event(crowd, "address")
        with tempfile.TemporaryDirectory() as folder:
            return await _measured(crowd, address["api_url"], Path(folder), options)
    finally:
        if crowd.returncode is None:
            crowd.kill()
        await crowd.wait()


async def _measured(
    crowd: Any, api_url: str, data: Path, options: argparse.Namespace
) -> dict[str, Any]:
    values: dict[str, Any] = {"image_model_path": options.folder} if options.folder else {}
    settings = load_settings(
        discord_token=None,
        discord_api_url=api_url,
        data_dir=data,
        image_model_name=options.model,
        limit_open_jobs=10,
        **values,
    )
    app = App(settings, guild_ready_timeout=0.01)
    run = asyncio.create_task(app.run())
    measuring = asyncio.create_task(_probed(crowd, app))
    try:
        # Nothing more can be measured of a bot that cannot start, or that ends.
        await asyncio.wait(
            {run, measuring}, timeout=_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        measuring.cancel()
        app.stop()
        await asyncio.wait({run, measuring})
    await run
    if measuring.cancelled():
        raise BotError("The bot ended, or time ran out, before every job was answered.")
    probe, result, rows = await measuring
    seconds: list[float] = result["seconds"]
    drawn = [row["finished_at"] - row["started_at"] for row in rows]
    figures = {
        "jobs": len(rows),
        "quality": options.quality,
        "states": sorted({row["state"] for row in rows}),
        "pictures_seen": result["pictures"],
        "order": " ".join(result["order"]),
        "first_job_s": round(drawn[0], 2),
        "later_jobs_median_s": round(statistics.median(drawn[1:]), 2),
        "response_p50_ms": round(1000 * statistics.median(seconds), 1),
        "response_max_ms": round(1000 * max(seconds), 1),
        **probe.figures(),
    }
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return figures


async def _probed(crowd: Any, app: App) -> tuple[Probe, dict[str, Any], list[Any]]:
    """Let the crowd go once the bot is ready; return what was seen, and the jobs' rows."""
    await app.ready.wait()
    probe = Probe(app)
    probing = asyncio.create_task(probe.run())
    try:
        go(crowd)
        result = await next_event(crowd, "result")
    finally:
        probing.cancel()
    rows = await app.client.services.database.read(
        lambda tx: tx.all("SELECT state, started_at, finished_at FROM jobs ORDER BY started_at")
    )
    return probe, result, rows
