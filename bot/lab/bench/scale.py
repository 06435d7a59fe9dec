"""Pictures an hour with one engine and with several: `python -m bot bench scale`.

The real queue, SQLite file and fleet of this process feed one engine child per card, started here
or by a Ray cluster. All engines are loaded and warmed up first. Then the same number of jobs for
each engine is drawn by all of them together, and by the first alone while the others are paused:
both in one run, on the same cards.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bot.app.engines import cluster_engines, local_engines
from bot.config.settings import Settings, load_settings
from bot.domain.job import Job, JobState, Origin, Target
from bot.domain.request import ImageRequest
from bot.errors import BotError
from bot.fleet.engine_slot import Standby
from bot.fleet.fleet import Fleet
from bot.jobs.queue import JobQueue
from bot.lab.bench.picture import RANDOM
from bot.lab.bench.response import percentile
from bot.logs import set_up_logging
from bot.rules.limits import Limits
from storage.database import Database
from storage.images import ImageStore

_USERS: Final = 6
_JOIN_S: Final = 120.0
_PROMPT: Final = "a lighthouse at night, the sea below, and a sign that says HELLO"
_PLENTY: Final = Limits(open_jobs=10_000, images_per_day=1_000_000, queue_size=10_000)


async def bench_scale(options: argparse.Namespace) -> dict[str, Any]:
    """Run the benchmark; return its figures."""
    set_up_logging("WARNING")
    if options.random:
        command = [sys.executable, "-c", RANDOM, str(options.folder), "cuda", "0"]
        await asyncio.to_thread(subprocess.run, command, check=True)
    with tempfile.TemporaryDirectory() as folder:
        values: dict[str, Any] = {"image_model_path": options.folder} if options.folder else {}
        settings = load_settings(
            data_dir=Path(folder),
            image_model_name=options.model,
            image_precision=options.precision,
            image_gpu_memory_utilization=0.9,
            engines=_engines(options),
            **values,
        )
        database = await Database.open(settings.database_path)
        queue = JobQueue(database, _PLENTY, model=settings.model.name)
        await queue.start()
        fleet = Fleet(queue, ImageStore(settings.images_dir), database)
        running = asyncio.create_task(fleet.run())
        try:
            async with _filled(fleet, settings, options.engines):
                figures = await _measured(settings, queue, fleet, options)
        finally:
            running.cancel()
            await asyncio.wait({running})
            await fleet.close()
            await database.close()
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return figures


def _engines(options: argparse.Namespace) -> str:
    if options.ray:
        return "ray"
    return "local" if options.engines is None else f"local:{options.engines}"


@asynccontextmanager
async def _filled(fleet: Fleet, settings: Settings, wanted: int | None) -> AsyncGenerator[None]:
    """Put the engines of the settings into `fleet`; those of a cluster stay as long as the block.

    Raises `TimeoutError` where the cluster has fewer than `wanted` (or none) for two minutes.
    """
    for one in await asyncio.to_thread(local_engines, settings):
        await fleet.add(one.name, one.engine, card=one.card)
    if settings.engines != "ray":
        yield
        return
    cluster = cluster_engines(settings, fleet)
    watching = asyncio.create_task(cluster.run())
    try:
        async with asyncio.timeout(_JOIN_S):
            while len(fleet.slots) < (wanted or 1):  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0.2)
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        await cluster.close()


async def _measured(
    settings: Settings, queue: JobQueue, fleet: Fleet, options: argparse.Namespace
) -> dict[str, Any]:
    request = _request(settings, options)
    began = time.monotonic()
    await fleet.load()
    _say(f"{len(fleet.slots)} engines loaded in {time.monotonic() - began:.0f} s")
    names = list(fleet.slots)
    figures: dict[str, Any] = {"engines": len(names), "size": f"{request.width}x{request.height}"}
    figures["steps"] = request.steps
    for name in names:  # Each compiles, one after the other, from the same cache.
        await _only(fleet, [name])
        began = time.monotonic()
        await _drawn(queue, [replace(request, seed=n) for n in range(options.warm)])
        _say(f"{name} warm after {time.monotonic() - began:.0f} s")
    counts = sorted({1, len(names)}, reverse=True)
    rows: dict[str, Any] = {}
    for count in counts:
        await _only(fleet, names[:count])
        row = await _row(queue, request, count, options.jobs * count)
        row["by_engine"] = {
            name: None if (speed := fleet.slots[name].speed) is None else round(speed, 3)
            for name in names[:count]
        }
        rows[str(count)] = row
        _say(f"{count}: {json.dumps(row)}")
    if len(counts) > 1:
        gain = rows[str(counts[0])]["jobs_an_hour"] / rows["1"]["jobs_an_hour"]
        figures |= {"gain": round(gain, 3), "efficiency": round(gain / counts[0], 3)}
    cards = [slot.card for slot in fleet.slots.values()]
    return figures | {"rows": rows, "cards": cards}


async def _row(queue: JobQueue, request: ImageRequest, engines: int, count: int) -> dict[str, Any]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    began = time.monotonic()
    jobs = await _drawn(queue, [replace(request, seed=number) for number in range(count)])
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    drawing = [(job.timings or {}).get("total", 0.0) for job in jobs]
    spans = sorted((job.started_at or 0.0, job.finished_at or 0.0) for job in jobs)
    return {
        "jobs": count,
        "seconds": round(seconds, 2),
        "jobs_an_hour": round(3600 * count / seconds, 1),
        "drawing_p50_s": round(percentile(drawing, 0.5), 2),
        "drawing_max_s": round(max(drawing), 2),
        # The time that an engine does not draw: handing over, hashing, three commits.
        "between_jobs_s": round((engines * seconds - sum(drawing)) / count, 3),
        "held_s": round(sum(end - start for start, end in spans) / count, 3),
        "bot_cpu_ms_a_job": round(1000 * cpu_s / count, 1),
    }


async def _drawn(queue: JobQueue, requests: Sequence[ImageRequest]) -> list[Job]:
    """Submit all at once, from several users, and wait until they are drawn."""
    with queue.feed.subscribe() as updates:
        users = itertools.cycle(range(1, _USERS + 1))
        waiting = {
            (await queue.submit(request, _origin(next(users)))).job.id for request in requests
        }
        ids = sorted(waiting)
        async for update in updates:
            if update.kind == "final":
                waiting.discard(update.job_id)
            if not waiting:
                break
    jobs = [job for job_id in ids if (job := await queue.job(job_id)) is not None]
    failed = [job for job in jobs if job.state is not JobState.GENERATED]
    if failed:
        raise BotError(f"{len(failed)} jobs failed, the first of them: {failed[0].error_kind}")
    return jobs


_sources = itertools.count()


def _origin(user_id: int) -> Origin:
    return Origin(
        source_id=f"bench-{next(_sources)}",
        target=Target.CLI,
        user_id=user_id,
        user_name=f"user {user_id}",
    )


def _request(settings: Settings, options: argparse.Namespace) -> ImageRequest:
    spec = settings.model
    quality = spec.qualities[spec.default_quality]
    width, height = spec.sizes[spec.default_aspect]
    return ImageRequest(
        _PROMPT,
        width=width,
        height=height,
        steps=options.steps or quality.steps,
        guidance=quality.guidance,
    )


async def _only(fleet: Fleet, names: Sequence[str]) -> None:
    for name, slot in fleet.slots.items():
        wanted = None if name in names else Standby.PAUSED
        if slot.standby is not wanted:
            await fleet.set_standby(name, wanted, by=0)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
