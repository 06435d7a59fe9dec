"""Kill -9 of actors, nodes, children and the bot while people ask for pictures.

The bot is that of `python -m bot run` with ENGINES=ray on two nodes; see tests/crash/storm.py for the
people, and tests/crash/judge.py for what is counted.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest

from bot.sandbox.server import Sandbox
from tests.cluster.kit import Nodes, processes_below, ray_nodes
from tests.crash.kit import bot_on, rows
from tests.crash.runner import Plan
from tests.crash.storm import Storm
from tests.crash.test_engine_dies_too import gone


class RayStorm(Storm):
    """A storm over a cluster: what it kills as "the engine" is one of three things, in turn."""

    def __init__(self, nodes: Nodes, *args, **options) -> None:
        super().__init__(*args, **options)
        self._nodes = nodes
        self._standing = [nodes.add(), nodes.add()]
        self._kinds = ["actor", "node", "child"]
        self.killed: list[str] = []

    def _killed_engine(self) -> bool:
        kind = self._kinds[len(self.killed) % len(self._kinds)]
        if not getattr(self, f"_kill_{kind}")():
            return False
        self.killed.append(kind)
        self.report.kills_engine += 1
        return True

    def _kill_actor(self) -> bool:
        return self._kill_one("ray::NodeActor")

    def _kill_child(self) -> bool:
        return self._kill_one("bot.engine.child")

    def _kill_node(self) -> bool:
        self._nodes.kill(self._standing.pop(0))
        self._standing.append(self._nodes.add())
        return True

    def _kill_one(self, words: str) -> bool:
        """Kill one of these while a job is drawn, so that it may be hit."""
        try:
            running = rows(self.bot.database, "SELECT id FROM jobs WHERE state = 'running'")
        except sqlite3.Error:  # it is not made yet
            return False
        if not running or not self.bot.alive:
            return False
        for pid in self._on_nodes(words):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def _on_nodes(self, words: str) -> list[int]:
        """The processes of all nodes whose command line has these words."""
        found: list[int] = []
        for node in self._standing:
            for pid in processes_below(node.all_processes["raylet"][0].process.pid):
                with suppress(OSError):
                    if words in Path(f"/proc/{pid}/cmdline").read_text():
                        found.append(pid)
        return found

    async def leftovers_end(self) -> None:
        """Wait until nothing of the bot's is left on the nodes."""
        async with asyncio.timeout(20):
            for pid in self._on_nodes("bot.engine.child"):
                with suppress(ProcessLookupError):
                    await gone(os.pidfd_open(pid))


@pytest.mark.slow
@pytest.mark.timeout(280)
async def test_a_storm_over_two_nodes(tmp_path):
    with ray_nodes() as nodes:
        options = {
            "engines": "ray",
            "ray_address": nodes.address,
            "ray_auth_mode": "disabled",
            "limit_open_jobs": 10_000,
            "limit_images_per_day": 10_000_000,
            "limit_gpu_seconds_per_day": 0,
        }
        async with Sandbox() as sandbox, bot_on(sandbox, tmp_path, **options) as bot:
            storm = RayStorm(
                nodes,
                bot,
                jobs=24,
                kills=7,
                seed=1,
                plan=Plan("tests.cluster.slowly:build"),
                weather=0,
                kill_pause_s=1.2,
            )
            report = await storm.run()
            await storm.leftovers_end()
    assert not report.faults
    assert report.jobs >= 24
    assert report.kills_bot == 4
    assert set(storm.killed) == {"actor", "node", "child"}
    assert report.pictures >= report.generated > 0
    assert report.kept == 0
    assert report.faulted_jobs + report.interrupted_jobs > 0
