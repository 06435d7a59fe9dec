"""Engines on a Ray cluster for tests/engine/test_conformance.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from enum import StrEnum
from pathlib import Path

from bot.engine.cluster.engine import RayEngine
from bot.engine.cluster.hub import Hub
from bot.engine.options import Backoff, EngineOptions, SilenceLimits
from bot.engine.protocol import EngineRequest
from tests.cluster.kit import Nodes, ray_nodes
from tests.engine.kit import request


class OnRay:
    """The engine on a node, whose child runs tests/engine/misbehaving.py."""

    name = "ray"
    slack = 1
    slow = True
    heavy = False

    def __init__(self, acts: frozenset[StrEnum]) -> None:
        self.acts = acts
        self._users = 0
        self._nodes: Nodes | None = None
        self._stack = ExitStack()

    @asynccontextmanager
    async def opened(
        self, folder: Path, *, silence: float | None = None
    ) -> AsyncIterator[RayEngine]:
        async with self._engine("any", folder, silence) as engine:
            yield engine

    @asynccontextmanager
    async def unloadable(self, folder: Path) -> AsyncIterator[tuple[RayEngine, Callable[[], None]]]:
        async with self._engine("load-needs-file", folder) as engine:
            yield engine, (folder / "weights").touch

    def request(self, _engine: RayEngine, act: StrEnum, folder: Path, **changes) -> EngineRequest:
        return request(folder, act.value, **changes)

    @contextmanager
    def _cluster(self) -> Iterator[Nodes]:
        """One cluster for all that are open at the same time."""
        if not self._users:
            self._nodes = self._stack.enter_context(ray_nodes())
            self._nodes.add(4)
        self._users += 1
        try:
            yield self._nodes
        finally:
            self._users -= 1
            if not self._users:
                self._stack.close()

    @asynccontextmanager
    async def _engine(
        self, model: str, folder: Path, silence: float | None = None
    ) -> AsyncIterator[RayEngine]:
        with self._cluster() as nodes:
            hub = await Hub.join(nodes.address)
            try:
                (node,) = await hub.call("nodes", 30)
                engine = RayEngine(
                    model,
                    options=EngineOptions(folder, pipeline="misbehaving:build"),
                    hub=hub,
                    node=node["id"],
                    limits=SilenceLimits() if silence is None else SilenceLimits(denoise=silence),
                    backoff=Backoff(base=0.01),
                )
                await engine.claim()
                yield engine
                await engine.close()
            finally:
                await hub.close()
