"""The engine whose child runs on a node of a Ray cluster."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from bot.engine.cluster.hub import Hub
from bot.engine.cluster.link import RayLink
from bot.engine.options import Backoff, EngineOptions, SilenceLimits
from bot.engine.parent.link import ChildLink
from bot.engine.parent.process import EngineProcess
from bot.engine.protocol import EngineState, Event, Request
from bot.errors import EngineError, EngineErrorKind

_CLAIM_S: Final = 120.0
_RELEASE_S: Final = 40.0


class RayEngine:
    """An `Engine` on one GPU of the cluster: an `EngineProcess` whose child is on that node.

    The actor there is made again when it has died, for as long as the node lives.
    """

    def __init__(
        self,
        model: str,
        *,
        options: EngineOptions,
        hub: Hub,
        node: str,
        limits: SilenceLimits | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._hub = hub
        self._node = node
        self._number = hub.number()
        self._options = options
        self._process = EngineProcess(
            model, options=options, limits=limits, backoff=backoff, connect=self._connect
        )

    @property
    def name(self) -> str:
        """See `Engine`."""
        return self._process.name

    @property
    def state(self) -> EngineState:
        """See `Engine`."""
        return self._process.state

    @property
    def pid(self) -> int | None:
        """The child's process id on its node, while there is a child."""
        return self._process.pid

    async def claim(self) -> dict[str, Any]:
        """Take a GPU of the node; return what the node has (see fingerprint.py).

        Raises `EngineError` when no GPU of the node is free, or the node does not answer.
        """
        report = await self._hub.call(
            "claim",
            _CLAIM_S,
            engine=self._number,
            node=self._node,
            model_path=str(self._options.model_path),
            lora_path=str(self._options.lora_path),
        )
        if not isinstance(report, dict):
            raise EngineError(EngineErrorKind.GARBLED, "the node does not say what it has")
        return report

    async def load(self) -> None:
        """See `Engine`."""
        await self._process.load()

    def generate(self, request: Request) -> AsyncIterator[Event]:
        """See `Engine`."""
        return self._process.generate(request)

    async def cancel(self, job_id: str) -> None:
        """See `Engine`."""
        await self._process.cancel(job_id)

    async def unload(self) -> bool:
        """See `Engine`."""
        return await self._process.unload()

    async def close(self) -> None:
        """See `Engine`. The GPU is free for others afterwards."""
        await self._process.close()
        with contextlib.suppress(EngineError):
            await self._hub.call("release", _RELEASE_S, engine=self._number)

    async def _connect(self) -> ChildLink:
        return await RayLink.start(self._hub, self._number)
