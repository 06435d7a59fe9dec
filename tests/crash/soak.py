"""Thousands of jobs in one process: what piles up in memory, descriptors, tasks and the WAL.

`python -m bot bench soak --jobs N`. The bot runs in this process with an engine without a model,
the sandbox and its people in another (`python -m tests.crash.soak`), so that this process's
figures are the bot's.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

from bot.app.app import App
from bot.config.settings import load_settings
from bot.logs import set_up_logging
from bot.sandbox.people import NoResponse
from bot.sandbox.server import Sandbox
from tests.engines import ScriptedEngine

USERS = ("alice", "bob", "chen", "mallory")
OPEN_EACH = 4
PATIENCE_S = 30
# Bounds on a run after its first fifth, which fills caches (discord.py's buckets, SQLite's pages).
# An idle connection is kept for each call that ran at the same time.
MOST_FILES = len(USERS) * OPEN_EACH
MOST_TASKS = 3
MOST_WAL_MB = 8.0
MOST_GROWTH_MB = 6.0


async def crowd(jobs: int) -> None:
    """Serve a sandbox in which four people ask for `jobs` pictures, a line a finished job."""
    async with Sandbox() as sandbox:
        _tell(sandbox.api_url)
        await asyncio.to_thread(sys.stdin.readline)
        world = sandbox.world

        async def person(name: str, share: int) -> None:
            for _ in range(share):
                invocation = await sandbox.user(name).slash(
                    "art", "imagine", prompt="a moon", quality="fast"
                )
                try:
                    await invocation.response(PATIENCE_S)
                    await invocation.until(lambda message: message.files, PATIENCE_S)
                except (NoResponse, TimeoutError):
                    _tell("lost")
                    continue
                _tell("done")
                # The sandbox's own memory is not the question.
                world.delete_message(invocation.interaction.original)
                world.interactions.pop(invocation.interaction.id)
                world.files.clear()

        each = jobs // (len(USERS) * OPEN_EACH)
        await asyncio.gather(*(person(name, each) for name in USERS for _ in range(OPEN_EACH)))
        _tell("end")
        await asyncio.to_thread(sys.stdin.readline)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def look(data: Path) -> dict[str, float]:
    """What the process holds now."""
    gc.collect()
    wal = data / "bot.sqlite3-wal"
    return {
        "resident_kb": _resident_kb(),
        "open_files": len(list(Path("/proc/self/fd").iterdir())),
        "tasks": len(asyncio.all_tasks()),
        "wal_mb": round(wal.stat().st_size / 2**20, 2) if wal.exists() else 0.0,
    }


def slope(points: list[tuple[float, float]]) -> float:
    """The least-squares slope of (x, y) points."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


async def soak(jobs: int, data: Path, *, samples: int = 50) -> dict[str, Any]:
    """Run the jobs; return the samples, their summary, and what must not be."""
    set_up_logging("WARNING")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.crash.soak", str(jobs), stdin=PIPE, stdout=PIPE
    )
    assert process.stdin
    assert process.stdout
    began = time.monotonic()
    api_url = (await process.stdout.readline()).decode().strip()
    app = App(
        load_settings(
            discord_token=None,
            discord_api_url=api_url,
            data_dir=data,
            image_model_name="tiny",
            limit_open_jobs=jobs,
            limit_images_per_day=jobs * 2,
            limit_queue_size=jobs,
            limit_server_queue_size=0,
            limit_gpu_seconds_per_day=0,
            _env_file=None,
        ),
        engines=[engine := ScriptedEngine()],
        guild_ready_timeout=0.01,
    )
    run = asyncio.create_task(app.run())
    taken: list[dict[str, float]] = []
    done = lost = 0
    try:
        await app.ready.wait()
        process.stdin.write(b"\n")
        every = max(1, jobs // samples)
        while (line := await process.stdout.readline()).strip() != b"end":
            lost += line.strip() == b"lost"
            done += 1
            if done % every == 0:
                engine.requests.clear()
                taken.append({"jobs": done, **look(data)})
    finally:
        app.stop()
        await asyncio.gather(run, return_exceptions=True)
        process.stdin.write(b"\n")
        await process.wait()
    seconds = round(time.monotonic() - began, 1)
    return summary(taken, lost) | {"seconds": seconds, "samples": taken}


def summary(taken: list[dict[str, float]], lost: int) -> dict[str, Any]:
    """Compare what was held over the run after its first fifth."""
    settled = taken[len(taken) // 5 :]
    third = len(settled) // 3

    def growth(name: str) -> float:
        """How much more is held at the end; the least of some samples is what is never let go."""
        last, first = settled[-third:], settled[:third]
        return min(point[name] for point in last) - min(point[name] for point in first)

    def span(name: str) -> list[float]:
        return [min(point[name] for point in settled), max(point[name] for point in settled)]

    points = [(point["jobs"], point["resident_kb"]) for point in settled]
    figures = {
        "jobs": settled[-1]["jobs"],
        "lost": lost,
        "resident_mb": [round(kb / 1024, 1) for kb in span("resident_kb")],
        "growth_mb": round(growth("resident_kb") / 1024, 2),
        "kb_per_job": round(slope(points), 3),
        "open_files": span("open_files"),
        "tasks": span("tasks"),
        "wal_mb": span("wal_mb"),
    }
    bounds = {
        "people waited in vain": lost > 0,
        "open files pile up": growth("open_files") > MOST_FILES,
        "tasks pile up": growth("tasks") > MOST_TASKS,
        "the WAL grows": figures["wal_mb"][1] > MOST_WAL_MB,
        "memory grows": figures["growth_mb"] > MOST_GROWTH_MB,
    }
    return figures | {"faults": [fault for fault, found in bounds.items() if found]}


def main(jobs: int) -> tuple[dict[str, Any], list[str]]:
    """Soak in a temporary folder; return the figures and what must not be."""
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(soak(jobs, Path(folder)))
    figures.pop("samples")
    faults = figures.pop("faults")
    return figures, faults


if __name__ == "__main__":
    asyncio.run(crowd(int(sys.argv[1])))
