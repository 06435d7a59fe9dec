"""Cost of a job to the bot itself, without its engine's work: `python -m bot bench cost`.

The whole bot runs in this process, a sandbox and its users in another. The engines are in-process
and hand over one ready picture after `--seconds`; everything else is real. CPU time, commits and
bytes are the bot's own. The write-ahead log is measured in a second pass, in which a reader keeps
it from being emptied.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
from PIL import Image, ImageFilter

from bot.app.app import App
from bot.config.settings import load_settings
from bot.engine.protocol import (
    EngineRequest,
    EngineState,
    Event,
    Finished,
    Picture,
    Preview,
    Request,
    Step,
)
from bot.lab.bench.order import order_costs
from bot.lab.bench.response import go, next_event
from bot.logs import set_up_logging
from storage.database import Database

_PATIENCE_S: Final = 1800.0
_SIZE: Final = (1344, 768)
_PREVIEW: Final = (336, 192)
_COMMITS: Final = 2000


class ReadyEngine:
    """Hands over the picture at `source` after `seconds`, with a preview for each step."""

    def __init__(self, name: str, source: Path, preview: bytes, seconds: float) -> None:
        self.name = name
        self.state = EngineState.IDLE
        self._source = source
        self._preview = preview
        self._seconds = seconds

    async def load(self) -> None:
        """Do nothing: there is no model."""

    async def generate(self, request: Request) -> AsyncIterator[Event]:
        """Wait, then link the ready picture under each picture's name."""
        assert isinstance(request, EngineRequest)
        self.state = EngineState.BUSY
        try:
            for step in range(1, request.steps + 1):
                await asyncio.sleep(self._seconds / request.steps)
                yield Step(step, request.steps)
                if self._seconds:
                    yield Preview(step, self._preview)
            for index, seed in enumerate(request.seeds):
                path = request.output_dir / f"{index}.png"
                shutil.copyfile(self._source, path)
                yield Picture(index, path, seed, *_SIZE)
            yield Finished({"denoise": self._seconds, "total": self._seconds})
        finally:
            self.state = EngineState.IDLE

    async def cancel(self, job_id: str) -> None:
        """Do nothing: nobody cancels here."""

    async def unload(self) -> bool:
        """Stay as it is."""
        return False

    async def close(self) -> None:
        """Do nothing: there is nothing to free."""


class Sent:
    """Counts the requests to Discord and the bytes of their bodies."""

    def __init__(self) -> None:
        self.requests = 0
        self.body_bytes = 0

    def trace(self) -> aiohttp.TraceConfig:
        """Return the listener that discord.py's session takes."""
        found = aiohttp.TraceConfig()
        found.on_request_start.append(self._start)
        found.on_request_chunk_sent.append(self._chunk)
        return found

    async def _start(self, *_: object) -> None:
        self.requests += 1

    async def _chunk(
        self, _session: object, _context: object, params: aiohttp.TraceRequestChunkSentParams
    ) -> None:
        self.body_bytes += len(params.chunk)


async def bench_cost(options: argparse.Namespace) -> dict[str, Any]:
    """Run the benchmark; return its figures."""
    set_up_logging("ERROR")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture, preview = await asyncio.to_thread(ready_picture, folder)
        figures = await _pass(options, folder / "first", picture, preview)
        logged = await _pass(options, folder / "second", picture, preview, keep_log=True)
        figures["wal_kib_a_job"] = logged["wal_kib_a_job"]
        figures["picture_kib"] = round(picture.stat().st_size / 1024)
        figures["queue"] = await order_costs(folder)
        figures["commits_a_second"] = await _commits_a_second(folder / "commits.sqlite3")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return figures


def ready_picture(folder: Path) -> tuple[Path, bytes]:
    """Write a PNG about as large as a drawn one, and return a preview of it. Blocking."""
    noise = random.Random(1).randbytes(_SIZE[0] * _SIZE[1] * 3)  # noqa: S311 - nothing secret
    image = Image.frombytes("RGB", _SIZE, noise).filter(ImageFilter.GaussianBlur(3))
    target = folder / "ready.png"
    image.save(target)
    small = io.BytesIO()
    image.resize(_PREVIEW).save(small, "JPEG", quality=70)
    return target, small.getvalue()


async def _pass(
    options: argparse.Namespace,
    data: Path,
    picture: Path,
    preview: bytes,
    *,
    keep_log: bool = False,
) -> dict[str, Any]:
    command = [sys.executable, "-m", "bot.lab.bench.crowd", str(options.jobs), "--quality", "fast"]
    crowd = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=2**24)
    try:
        address = await next_event(crowd, "address")
        settings = load_settings(
            discord_token=None,
            discord_api_url=address["api_url"],
            data_dir=data,
            image_model_name="tiny",
            limit_open_jobs=options.jobs,
            limit_images_per_day=options.jobs,
            limit_queue_size=options.jobs,
            limit_server_queue_size=0,
            limit_gpu_seconds_per_day=0,
        )
        engines = [
            ReadyEngine(f"ready-{n}", picture, preview, options.seconds)
            for n in range(options.engines)
        ]
        app, sent = App(settings, engines=engines, guild_ready_timeout=0.01), Sent()
        app.client.http.http_trace = sent.trace()
        run = asyncio.create_task(app.run())
        async with asyncio.timeout(_PATIENCE_S):
            await app.ready.wait()
            figures = await _measured(app, crowd, sent, options.jobs, keep_log=keep_log)
            app.stop()
            await run
        go(crowd)
        return figures
    finally:
        if crowd.returncode is None:
            crowd.kill()
        await crowd.wait()


async def _measured(
    app: App, crowd: asyncio.subprocess.Process, sent: Sent, jobs: int, *, keep_log: bool
) -> dict[str, Any]:
    database = app.client.services.database
    log = database.path.with_name(f"{database.path.name}-wal")
    reader = sqlite3.connect(f"file:{database.path}?mode=ro", uri=True, isolation_level=None)
    try:
        await database.scrub()
        if keep_log:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM jobs").fetchone()
        before = database.path.stat().st_size
        commits, requests, body = database.commits, sent.requests, sent.body_bytes
        began, cpu = time.perf_counter(), time.process_time()
        go(crowd)
        result = await next_event(crowd, "result")
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        commits = database.commits - commits
        wal_bytes = log.stat().st_size if log.exists() else 0
    finally:
        reader.close()
    await database.scrub()
    return {
        "jobs": jobs,
        "pictures_seen": result["pictures"],
        "wall_s": round(wall, 1),
        "cpu_ms_a_job": round(1000 * cpu / jobs, 2),
        "commits_a_job": round(commits / jobs, 2),
        "requests_a_job": round((sent.requests - requests) / jobs, 2),
        "sent_kib_a_job": round((sent.body_bytes - body) / jobs / 1024, 1),
        "wal_kib_a_job": round(wal_bytes / jobs / 1024, 1),
        "database_kib_a_job": round((database.path.stat().st_size - before) / jobs / 1024, 2),
    }


async def _commits_a_second(path: Path) -> int:
    """Return how many small transactions a second this disk takes, one after another."""
    database = await Database.open(path)
    try:
        began = time.perf_counter()
        for number in range(_COMMITS):
            await database.write(
                lambda tx, number=number: tx.execute(
                    "INSERT OR REPLACE INTO facts (name, value) VALUES ('bench', ?)", (str(number),)
                )
            )
        return round(_COMMITS / (time.perf_counter() - began))
    finally:
        await database.close()
