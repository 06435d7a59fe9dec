"""ENGINES=ray without an address: a cluster of this machine alone, which ends with the bot."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cluster.kit import environment_of, membership, processes_below, ray_environment
from tests.crash.test_engine_dies_too import gone
from tests.engine.kit import draw_well, request

CANARY = "canary-that-no-process-of-ray-may-know"


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_cluster_of_this_machine(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
    with ray_environment():
        monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
        monkeypatch.setenv("DISCORD_TOKEN", CANARY)
        monkeypatch.setenv("HF_TOKEN", "for-downloads")
        async with membership(None, tmp_path) as (members, watcher):
            await members.until(lambda: members.engines)
            (engine,) = members.engines.values()
            await draw_well(engine, request(tmp_path))
            pids = processes_below(watcher.driver_pid)
            commands = " ".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)  # noqa: ASYNC240
            assert all(part in commands for part in ("gcs_server", "raylet", "bot.engine.child"))
            assert "--disable-frontend" in commands  # Ray's dashboard process serves no page
            settings = " ".join(environment_of(pid) for pid in pids)
            assert "RAY_USAGE_STATS_ENABLED=0" in settings
            assert CANARY not in settings
            assert "HF_TOKEN=for-downloads" in environment_of(engine.pid)  # docs/ray.md says so
            watched = []
            for pid in pids:
                with suppress(ProcessLookupError):
                    watched.append(os.pidfd_open(pid))
        async with asyncio.timeout(40):
            for pidfd in watched:
                await gone(pidfd)
