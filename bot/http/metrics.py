"""Metrics that Prometheus reads: jobs as they end, the queue and the card as they stand."""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from bot.archive.backup import made_at, newest_backup
from bot.catalogue.models import ModelSpec
from bot.domain.job import JobState
from bot.fleet.fleet import Fleet
from bot.jobs.queue import JobQueue
from storage import metrics
from storage.database import Database

log = logging.getLogger(__name__)

_WHICH: Final = ("engine", "node", "card")
_SECONDS: Final = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
_FAST_SECONDS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """The counters of one process; each of `models` has its sizes as labels of their own.

    `backups` is the folder of the backups.
    """

    def __init__(self, models: Sequence[ModelSpec], backups: Path) -> None:
        self._backups = backups
        self._default = models[0].name
        self._sizes = {spec.name: frozenset(spec.sizes.values()) for spec in models}
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._open = self._gauge("imagebot_jobs_open", "Jobs that wait or run.", "state")
        self._oldest = self._gauge("imagebot_oldest_wait_seconds", "Age of the oldest queued job.")
        self._paused = self._gauge("imagebot_queue_paused", "1 while no job is started.")
        self._backup_age = self._gauge(
            "imagebot_backup_age_seconds", "Age of the newest backup; NaN without one."
        )
        self._latency = self._gauge(
            "imagebot_gateway_latency_seconds", "Heartbeat on Discord's gateway; NaN without one."
        )
        self._vram = self._gauge(
            "imagebot_gpu_peak_bytes", "Most memory of the card that the last picture's job had."
        )
        self._engines = self._gauge(
            "imagebot_engine_state", "1 for the state that each engine is in.", *_WHICH, "state"
        )
        self._resting = self._gauge(
            "imagebot_engine_resting", "1 while an engine is paused or drained.", *_WHICH
        )
        self._speeds = self._gauge(
            "imagebot_engine_speed",
            "Megapixel steps a second of the model it holds, of late; NaN before one.",
            *_WHICH,
        )
        self._loaded = self._gauge(
            "imagebot_engine_model", "1 for the model that each engine holds.", *_WHICH, "model"
        )
        self._waits = self._histogram(
            "imagebot_job_wait_seconds", "From accepted to started.", _SECONDS
        )
        self._drawing = self._histogram(
            "imagebot_job_seconds", "From started to drawn.", _SECONDS, "model", "size"
        )
        self._jobs = self._counter("imagebot_jobs", "Jobs that ended.", "state", "target")
        self._pictures = self._counter("imagebot_pictures", "Pictures drawn.", "model")
        self._texts = self._counter("imagebot_texts", "Texts written, as jobs.", "model")
        self._failures = self._counter("imagebot_job_failures", "Failed jobs.", "kind")
        self._requests = self._histogram(
            "imagebot_http_request_seconds",
            "HTTP requests, with the wait for pictures.",
            _FAST_SECONDS,
            "method",
            "route",
            "status",
        )

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(name, text, labels, registry=self._registry, buckets=buckets)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; a method that HTTP does not know counts as `other`."""
        known = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
        label = method if method in known else "other"
        self._requests.labels(label, route, str(status)).observe(seconds)

    async def watch(self, queue: JobQueue, database: Database) -> None:
        """Count jobs as they end, whoever asked for them, until cancelled."""
        with queue.feed.subscribe() as updates:
            async for update in updates:
                if update.kind != "final":
                    continue
                try:
                    await self._ended(queue, database, update.job_id)
                except sqlite3.Error:
                    log.exception("an ended job could not be counted")

    async def _ended(self, queue: JobQueue, database: Database, job_id: str) -> None:
        job = await queue.job(job_id)
        if job is None or not job.state.final:
            return
        self._jobs.labels(job.state, job.target).inc()
        if job.state is JobState.FAILED:
            self._failures.labels(job.error_kind or "unknown").inc()
        if job.started_at is None or job.finished_at is None:
            return
        self._waits.observe(max(0.0, job.started_at - job.created_at))
        if job.state is not JobState.GENERATED:
            return
        request = job.request
        if request.writes:
            self._texts.labels(job.model or self._default).inc()
            return
        size = (request.width, request.height)
        model = job.model or self._default
        known = size in self._sizes.get(model, ())
        label = f"{size[0]}x{size[1]}" if known else "other"
        self._drawing.labels(model, label).observe(max(0.0, job.finished_at - job.started_at))
        self._pictures.labels(model).inc(request.count)
        peak = await database.read(partial(metrics.peak_gpu_bytes, job_id=job_id))
        if peak is not None:
            self._vram.set(peak)

    def _show(self, fleet: Fleet) -> None:
        for gauge in (self._engines, self._resting, self._speeds, self._loaded):
            gauge.clear()  # An engine that has left is not shown any more.
        for slot in fleet.slots.values():
            labels = (slot.name, slot.node, slot.card or "")
            self._engines.labels(*labels, slot.engine.state).set(1)
            if slot.loaded is not None:
                self._loaded.labels(*labels, slot.loaded).set(1)
            self._resting.labels(*labels).set(slot.standby is not None)
            self._speeds.labels(*labels).set(math.nan if slot.speed is None else slot.speed)

    async def page(
        self, queue: JobQueue, database: Database, fleet: Fleet, *, now: float, latency_s: float
    ) -> bytes:
        """Return the page that Prometheus reads."""
        depth = await database.read(metrics.depth)
        self._open.labels("queued").set(depth.queued)
        self._open.labels("running").set(depth.running)
        self._oldest.set(0 if depth.oldest_at is None else max(0.0, now - depth.oldest_at))
        self._show(fleet)
        newest = await asyncio.to_thread(newest_backup, self._backups, now)
        age = math.nan if newest is None else max(0.0, now - made_at(newest))
        self._backup_age.set(age)
        self._paused.set(queue.control.paused is not None)
        self._latency.set(latency_s if math.isfinite(latency_s) else math.nan)
        return generate_latest(self._registry)
