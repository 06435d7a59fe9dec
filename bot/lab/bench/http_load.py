"""Discord's acknowledgements while the HTTP API is loaded: `python -m bot bench http --load 30`.

The bot runs in this process; the sandbox with its users, and the API's clients, in two others. The
engine is in-process and hands over a ready picture after a second, as a GPU would: it takes no CPU.
Streams wait for their pictures, requests begin at an even rate whatever becomes of those before
them, and people ask in Discord meanwhile. Acknowledgements run from INTERACTION_CREATE sent to the
callback received.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections import Counter
from pathlib import Path
from typing import Any, Final

from bot.app.app import App
from bot.config.settings import load_settings
from bot.errors import BotError
from bot.lab.bench.cost import ReadyEngine, ready_picture
from bot.lab.bench.response import go, next_event, percentile
from bot.logs import set_up_logging

STREAMS: Final = 50
RATE: Final = 200
"""Requests a second."""
_PRESSES: Final = 14
"""How often the crowd's four users ask in a second, about."""
_DRAWN_S: Final = 1.0
_PATIENCE_S: Final = 1800.0
KEYS: Final = {"streams": "streams-of-the-benchmark", "requests": "requests-of-the-benchmark"}


async def bench_http_load(seconds: int) -> dict[str, Any]:
    """Load the API for about so many seconds; return the figures."""
    set_up_logging("ERROR")
    command = [sys.executable, "-m", "bot.lab.bench.crowd", str(seconds * _PRESSES)]
    crowd = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=2**24)
    try:
        address = await next_event(crowd, "address")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            picture, preview = await asyncio.to_thread(ready_picture, folder)
            engine = ReadyEngine("ready", picture, preview, _DRAWN_S)
            settings = load_settings(
                discord_token=None,
                discord_api_url=address["api_url"],
                data_dir=folder / "bot",
                image_model_name="tiny",
                api_keys=", ".join(f"{name}:{key}" for name, key in KEYS.items()),
                api_key_limits=" ".join(f"{name}:jobs=0,images=0,seconds=0" for name in KEYS),
                http_port=0,
                limit_open_jobs=10**6,
                limit_images_per_day=10**6,
                limit_gpu_seconds_per_day=0,
                limit_queue_size=10**6,
                limit_server_queue_size=0,
            )
            app = App(settings, engines=[engine], guild_ready_timeout=0.01)
            run = asyncio.create_task(app.run())
            async with asyncio.timeout(_PATIENCE_S):
                await app.ready.wait()
                figures = await _measured(app, crowd)
                app.stop()
                await run
        go(crowd)
        return figures
    finally:
        if crowd.returncode is None:
            crowd.kill()
        await crowd.wait()


async def _measured(app: App, crowd: asyncio.subprocess.Process) -> dict[str, Any]:
    assert app.door
    cpu_s, began = time.process_time(), time.perf_counter()
    loaded_before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    caller = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot.lab.bench.http_caller", app.door.url, str(STREAMS)),
        *(str(RATE), *KEYS.values()),
        stdin=PIPE,
        stdout=PIPE,
        limit=2**24,
    )
    try:
        await next_event(caller, "waiting")
        go(crowd)
        pressed = await next_event(crowd, "result")
        go(caller)
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - began
        called = await next_event(caller, "result")
        await caller.wait()
    finally:
        if caller.returncode is None:
            caller.kill()
    if not called["seconds"]:
        raise BotError("The client made no requests.")
    acks: list[float] = pressed["seconds"]
    took: list[float] = called["seconds"]
    return {
        "streams": STREAMS,
        "streamed_pictures": called["streamed"],
        "partial_images": called["partial"],
        "lost_streams": called["lost"],
        "failed": called["failed"],
        "closed": called["closed"],
        "requests": len(took),
        "requests_a_second": round(len(took) / called["wall_s"], 1),
        "statuses": dict(Counter(map(str, called["statuses"]))),
        "request_p50_ms": _ms(took, 0.5),
        "request_p99_ms": _ms(took, 0.99),
        "acks": len(acks),
        "unanswered": pressed["lost"],
        "ack_p50_ms": round(1000 * statistics.median(acks), 1),
        "ack_p99_ms": _ms(acks, 0.99),
        "ack_max_ms": round(1000 * max(acks), 1),
        "bot_cpu_share": round(cpu_s / wall_s, 2),
        "load_before": loaded_before,
        "cores": os.cpu_count(),
    }


def _ms(seconds: list[float], share: float) -> float:
    return round(1000 * percentile(seconds, share), 1)
