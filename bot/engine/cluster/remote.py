"""The remote side of an engine, as the driver sees it: the actor on the node, and its child."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bot.engine.cluster.actor import inputs_of
from bot.engine.cluster.actor_proxy import ANSWER_S, ActorProxy
from bot.engine.cluster.driver_link import DriverLink
from bot.engine.cluster.relay import AnswerRelay
from bot.engine.wire import GENERATE, WRITE
from bot.errors import EngineErrorKind
from storage.plain_files import read_plain

CLAIM_S: Final = 60.0
"""Seconds for an actor's start and its reading from the disk, on a machine that is busy."""
_INPUT_BYTES: Final = 2**26
log = logging.getLogger(__name__)


class Remote:
    """The engine `number` on one GPU of `node`; `send(kind, tail, **fields)` speaks to the bot.

    A node whose stream shows no sign of life for `silent_s` seconds hangs. There is no complete
    list of what Ray may raise (`RayError`, but also `TypeError` or `OSError`), so nothing here
    depends on the kind: every exception ends the link, and the bot is told.
    """

    def __init__(
        self, number: int, node: str, send: Callable[..., None], *, silent_s: float
    ) -> None:
        self._silent_s = silent_s
        self._actor = ActorProxy(node)
        self._link = DriverLink(number, send)
        self._messages: asyncio.Queue[tuple[int, dict[str, Any]]] = asyncio.Queue()
        self._relay: AnswerRelay | None = None
        self._stream: asyncio.Task[None] | None = None
        self._courier = asyncio.create_task(self._carry())

    async def claim(self, model_path: str, lora_path: str) -> dict[str, Any]:
        """Take the GPU; return what the node has (see fingerprint.py)."""
        await self._actor.make()
        return await self._actor.ask(CLAIM_S, "inspect", model_path, lora_path)

    async def open(self, link: int) -> int:
        """Start a child; return its process id. Its messages bear the number `link`."""
        self._link.number, self._link.open = link, False
        if self._actor.handle is not None:
            with contextlib.suppress(Exception):
                return await self._opened(link, ANSWER_S)
            await self._actor.kill()
        await self._actor.make()
        return await self._opened(link, CLAIM_S)

    def post(self, link: int, message: dict[str, Any]) -> None:
        """Have a message carried to the child, after those before it."""
        self._messages.put_nowait((link, message))

    async def end(self, patience: float) -> None:
        """End the child; the actor stays for the next one, unless it does not answer."""
        self._link.open = False
        if self._actor.handle is None:
            return
        try:
            await self._actor.ask(patience + ANSWER_S, "end", patience)
        except Exception:  # noqa: BLE001 - see above
            await self._actor.kill()
        if self._stream is not None:
            self._stream.cancel()

    async def release(self) -> None:
        """End the child and the actor: the GPU is free for others."""
        self._courier.cancel()
        if self._stream is not None:
            self._stream.cancel()
        self._link.open = False
        await self._actor.kill()

    async def check(self) -> None:
        """See whether the child of an idle engine still lives."""
        link = self._link.number
        if not self._link.open or (self._stream is not None and not self._stream.done()):
            return
        try:
            if await self._actor.ask(ANSWER_S, "alive"):
                return
            detail = "it ended while idle"
        except Exception as error:  # noqa: BLE001 - see above
            detail = _said(error)
            if link == self._link.number:
                await self._actor.kill()
        if link == self._link.number:
            self._link.end(link, EngineErrorKind.DIED, detail)

    async def _opened(self, link: int, limit_s: float) -> int:
        pid = int(await self._actor.ask(limit_s, "open"))
        self._link.open = link == self._link.number
        return pid

    async def _carry(self) -> None:
        while True:
            link, message = await self._messages.get()
            if link != self._link.number or not self._link.open:
                continue
            try:
                if message["type"] in {"load", GENERATE, WRITE}:
                    await self._begin(link, message)
                    continue
                if message["type"] == "cancel" and self._relay is not None:
                    # A cancel that overtakes its job would be forgotten.
                    await self._relay.begun.wait()
                await self._actor.ask(ANSWER_S, "send", message)
            except Exception as error:  # noqa: BLE001 - see above
                self._fail(link, error)

    async def _begin(self, link: int, message: dict[str, Any]) -> None:
        if self._stream is not None:
            await asyncio.wait({self._stream})
        images: dict[str, bytes] = {}
        for name, place in inputs_of(message).items():
            with contextlib.suppress(OSError):
                path = Path(place)
                named = Path(path.parent.name, path.name)
                images[name] = await asyncio.to_thread(
                    read_plain, path.parent.parent, named, _INPUT_BYTES
                )
        stream = await self._actor.exchange(message, images)
        self._relay = AnswerRelay(self._actor, self._link, link, message, silent_s=self._silent_s)
        self._stream = asyncio.create_task(self._run(link, self._relay, stream))
        self._stream.add_done_callback(_note)

    async def _run(self, link: int, relay: AnswerRelay, stream: Any) -> None:
        try:
            await relay.run(stream)
        except Exception as error:  # noqa: BLE001 - see above
            self._fail(link, error)

    def _fail(self, link: int, error: BaseException) -> None:
        if link != self._link.number:
            return
        # As a line of the child's: the bot keeps what was typed out of those.
        self._link.log(link, f"ERROR in the Ray driver: {_said(error)}")
        silent = isinstance(error, TimeoutError)
        kind = EngineErrorKind.SILENT if silent else EngineErrorKind.DIED
        self._link.end(link, kind, "its node gives no sign of life" if silent else _said(error))
        task = asyncio.create_task(self._actor.kill())
        task.add_done_callback(_note)


def _said(error: BaseException) -> str:
    """Return the type and the first line of an error of Ray's; the rest is a table of processes."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


def _note(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("in the Ray driver: %s", _said(error), exc_info=error)
