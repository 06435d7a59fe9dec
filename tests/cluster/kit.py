"""A Ray cluster on this machine: a head without GPUs, and nodes that claim to have one each."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bot.engine.cluster.engine import RayEngine
from bot.engine.cluster.membership import RayMembership
from bot.engine.options import Backoff, EngineOptions

ROOT = Path(__file__).parent.parent.parent
# A confined child reads what is named here, and not the whole of the last: `.env` lies there.
PATHS = (ROOT / "tests/engine", ROOT / "tests/cluster", ROOT / "tests", ROOT)
STORE_BYTES = 80 * 2**20
JOIN_S = 60


@contextmanager
def ray_environment() -> Iterator[Path]:
    """Ray's processes find the tests' pipelines, and leave nothing outside of one folder."""
    with pytest.MonkeyPatch.context() as patch:
        # Not pytest's own: the path of a socket has 107 bytes at most.
        folder = Path(tempfile.mkdtemp(prefix="ray-"))
        patch.setenv("RAY_TMPDIR", str(folder))
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # A node that was killed is known to be dead after two seconds instead of fifteen.
        patch.setenv("RAY_health_check_initial_delay_ms", "500")
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "4")
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, PATHS)))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def own_signals() -> Iterator[None]:
    """Keep Ray's handler away, which drains the node for half a minute before it ends anything."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


class Nodes:
    """The cluster's nodes; each is three processes of this machine."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.address: str = cluster.address

    def add(self, gpus: int = 1) -> Any:
        with own_signals():
            return self._cluster.add_node(
                num_cpus=1, num_gpus=gpus, object_store_memory=STORE_BYTES, wait=True
            )

    def kill(self, node: Any) -> None:
        """Kill -9 of the node's raylet and its agents; its workers end by themselves."""
        self._cluster.remove_node(node, allow_graceful=False)


@contextmanager
def ray_nodes() -> Iterator[Nodes]:
    """A cluster, with its head alone."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
    with ray_environment():
        from ray.cluster_utils import Cluster

        with own_signals():
            cluster = Cluster(
                initialize_head=True,
                head_node_args={
                    "num_cpus": 1,
                    "num_gpus": 0,
                    "object_store_memory": STORE_BYTES,
                    "include_dashboard": False,
                },
            )
        try:
            yield Nodes(cluster)
        finally:
            cluster.shutdown()


class Members:
    """What a membership has told."""

    def __init__(self) -> None:
        self.engines: dict[str, RayEngine] = {}
        self.gone: list[str] = []
        self._changed = asyncio.Condition()

    async def joined(self, name: str, engine: RayEngine, *_: str | None) -> None:
        async with self._changed:
            self.engines[name] = engine
            self._changed.notify_all()

    async def left(self, name: str) -> None:
        async with self._changed:
            await self.engines.pop(name).close()
            self.gone.append(name)
            self._changed.notify_all()

    async def until(self, condition) -> None:
        async with asyncio.timeout(JOIN_S), self._changed:
            await self._changed.wait_for(condition)


@asynccontextmanager
async def membership(
    address: str | None, model_path: Path, model: str = "any", **options: Any
) -> AsyncIterator[tuple[Members, RayMembership]]:
    """A bot that draws with tests/cluster/pictures.py on every GPU of the cluster."""
    members = Members()
    watcher = RayMembership(
        address,
        model=model,
        options=EngineOptions(model_path, pipeline="pictures:build"),
        joined=members.joined,
        left=members.left,
        poll_s=0.2,
        backoff=Backoff(base=0.01),
        **options,
    )
    running = asyncio.create_task(watcher.run())
    try:
        yield members, watcher
    finally:
        running.cancel()
        await asyncio.wait({running})
        for engine in members.engines.values():
            await engine.close()
        await watcher.close()


def parent_of(pid: int) -> int:
    """The parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def processes_below(pid: int) -> list[int]:
    """A process and all that it started, and they."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def environment_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return ""
