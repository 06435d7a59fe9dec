"""The proxy of a node's actor in the driver process: makes it, calls it, kills it."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Any, Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bot.engine.cluster.actor import NodeActor
from bot.engine.cluster.threads import in_thread

ANSWER_S: Final = 15.0
"""Seconds within which a node that lives answers, unless it has much to do first."""


class ActorProxy:
    """The actor of one GPU of `node`, while there is one; `handle` is Ray's own.

    Every call may raise whatever Ray likes, and `TimeoutError`.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        self.handle: Any = None

    async def make(self) -> None:
        """Make an actor; that it cannot be placed shows at its first answer."""
        place = NodeAffinitySchedulingStrategy(self._node, soft=False)
        make = ray.remote(NodeActor).options(  # type: ignore[call-overload]
            num_gpus=1,
            num_cpus=0,
            max_concurrency=16,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=place,
        )
        self.handle = await in_thread(ANSWER_S, make.remote)

    async def ask(self, limit_s: float, method: str, *values: Any) -> Any:
        """Return what the actor's `method` returns, within `limit_s` seconds."""
        async with asyncio.timeout(limit_s):
            call = getattr(self._held(), method).remote
            return await (await in_thread(limit_s, partial(call, *values)))

    async def exchange(self, message: dict[str, Any], images: dict[str, bytes]) -> Any:
        """Hand the child a message; return Ray's stream of its answers (see actor.py)."""
        call = self._held().exchange.options(num_returns="streaming").remote
        return await in_thread(ANSWER_S, partial(call, message, images))

    async def kill(self) -> None:
        """End the actor and its child at once. Idempotent; raises nothing."""
        actor, self.handle = self.handle, None
        if actor is not None:
            with contextlib.suppress(Exception):
                await in_thread(ANSWER_S, partial(ray.kill, actor, no_restart=True))

    def _held(self) -> Any:
        if self.handle is None:
            raise RuntimeError("there is no actor")
        return self.handle
