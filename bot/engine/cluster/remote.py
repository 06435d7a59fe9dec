"""One GPU of the cluster, in the driver process: its actor, and the stream of what it says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bot.engine.cluster.actor import NodeActor
from bot.engine.cluster.threads import in_thread
from bot.errors import EngineErrorKind
from bot.errors.disk import refusal

CLAIM_S: Final = 60.0
"""Seconds for an actor's start and what it reads of the disk, on a machine that is busy."""
ANSWER_S: Final = 15.0
"""Seconds for every other answer of a node that lives."""
log = logging.getLogger(__name__)


class Remote:
    """The engine `number` on one GPU of `node`; `send(kind, tail, **fields)` speaks to the bot.

    A stream without a sign of life for `silent_s` seconds is one of a node that hangs. What Ray may
    raise is no closed list (`RayError`, but a `TypeError` or an `OSError` too), so nothing here
    counts on its kind: whatever it is ends the link, and the bot is told.
    """

    def __init__(
        self, number: int, node: str, send: Callable[..., None], *, silent_s: float
    ) -> None:
        self.number = number
        self._silent_s = silent_s
        self._node = node
        self._send = send
        self._actor: Any = None
        self._link = 0
        self._open = False
        self._messages: asyncio.Queue[tuple[int, dict[str, Any]]] = asyncio.Queue()
        self._begun = asyncio.Event()
        self._stream: asyncio.Task[None] | None = None
        self._courier = asyncio.create_task(self._carry())

    async def claim(self, model_path: str, lora_path: str) -> dict[str, Any]:
        """Take the GPU; return what the node has (see fingerprint.py)."""
        await self._take()
        return await self._ask(CLAIM_S, "inspect", model_path, lora_path)

    async def open(self, link: int) -> int:
        """Start a child; return its process id. `link` is the number that its messages bear."""
        self._link, self._open = link, False
        if self._actor is not None:
            with contextlib.suppress(Exception):
                return await self._opened(link, ANSWER_S)
            await self._let_go()
        await self._take()
        return await self._opened(link, CLAIM_S)

    def post(self, link: int, message: dict[str, Any]) -> None:
        """Have a message carried to the child, after those before it."""
        self._messages.put_nowait((link, message))

    async def end(self, patience: float) -> None:
        """End the child; the actor stays for the next one, unless it does not answer."""
        self._open = False
        if self._actor is None:
            return
        try:
            await self._ask(patience + ANSWER_S, "end", patience)
        except Exception:  # noqa: BLE001 - see above
            await self._let_go()
        if self._stream is not None:
            self._stream.cancel()

    async def release(self) -> None:
        """End the child and the actor: the GPU is free for others."""
        self._courier.cancel()
        if self._stream is not None:
            self._stream.cancel()
        self._open = False
        await self._let_go()

    async def check(self) -> None:
        """See whether the child of an idle engine still lives."""
        link = self._link
        if not self._open or (self._stream is not None and not self._stream.done()):
            return
        try:
            if await self._ask(ANSWER_S, "alive"):
                return
            detail = "it ended while idle"
        except Exception as error:  # noqa: BLE001 - see above
            detail = _said(error)
            if link == self._link:
                await self._let_go()
        if link == self._link:
            self._ended(link, EngineErrorKind.DIED, detail)

    async def _take(self) -> None:
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
        self._actor = await in_thread(ANSWER_S, make.remote)

    async def _let_go(self) -> None:
        actor, self._actor = self._actor, None
        if actor is not None:
            with contextlib.suppress(Exception):
                await in_thread(ANSWER_S, partial(ray.kill, actor, no_restart=True))

    async def _opened(self, link: int, limit_s: float) -> int:
        pid = int(await self._ask(limit_s, "open"))
        self._open = link == self._link
        return pid

    async def _ask(self, limit_s: float, method: str, *values: Any) -> Any:
        async with asyncio.timeout(limit_s):
            call = getattr(self._held(), method).remote
            return await (await in_thread(limit_s, partial(call, *values)))

    def _held(self) -> Any:
        if self._actor is None:
            raise RuntimeError("there is no actor")
        return self._actor

    async def _carry(self) -> None:
        while True:
            link, message = await self._messages.get()
            if link != self._link or not self._open:
                continue
            try:
                if message["type"] in {"load", "generate"}:
                    await self._begin(link, message)
                    continue
                if message["type"] == "cancel" and self._stream is not None:
                    # One that overtakes its job is forgotten.
                    await self._begun.wait()
                await self._ask(ANSWER_S, "send", message)
            except Exception as error:  # noqa: BLE001 - see above
                self._failed(link, error)

    async def _begin(self, link: int, message: dict[str, Any]) -> None:
        if self._stream is not None:
            await asyncio.wait({self._stream})
        image = None
        if message.get("input_image") is not None:
            with contextlib.suppress(OSError):
                image = await asyncio.to_thread(Path(message["input_image"]).read_bytes)
        call = self._held().exchange.options(num_returns="streaming").remote
        stream = await in_thread(ANSWER_S, partial(call, message, image))
        self._begun.clear()
        self._stream = asyncio.create_task(self._relay(link, stream, message))
        self._stream.add_done_callback(_note)

    async def _relay(self, link: int, stream: Any, message: dict[str, Any]) -> None:
        try:
            refused = False
            while True:
                async with asyncio.timeout(self._silent_s):
                    header, tail = await (await anext(stream))
                self._begun.set()
                match header["type"]:
                    case "beat":
                        pass
                    case "log":
                        self._send("log", engine=self.number, link=link, text=str(header["text"]))
                    case "ended":
                        detail = str(header["detail"])
                        self._ended(link, EngineErrorKind(header["kind"]), detail)
                    case "picture" if not refused:
                        refused = not await self._keep(link, header, tail, message)
                    case _ if not refused:
                        self._tell(link, header, tail)
                    case _:
                        pass
        except StopAsyncIteration:
            pass
        except Exception as error:  # noqa: BLE001 - see above
            self._failed(link, error)
        finally:
            self._begun.set()

    async def _keep(
        self, link: int, header: dict[str, Any], data: bytes, message: dict[str, Any]
    ) -> bool:
        """Write a picture where the bot wants it; return False when the disk refuses it."""
        index, count = header.get("index"), len(message["seeds"])
        if not data or not isinstance(index, int) or not 0 <= index < count:
            self._tell(link, {**header, "path": ""}, b"")  # the bot finds fault with it
            return True
        path = Path(message["output_dir"]) / f"{index}.png"
        try:
            await asyncio.to_thread(_write, path, data)
        except OSError as error:
            reason = refusal(error)
            kind = EngineErrorKind.DISK_REFUSED if reason else EngineErrorKind.RAISED
            detail = f"{type(error).__name__}: {error.strerror}"
            fields = {"kind": kind.value, "detail": detail, "sentence": reason, "values": {}}
            self._tell(link, {"type": "failed", "job": message["job"], **fields}, b"")
            await self._ask(ANSWER_S, "send", {"type": "cancel", "job": message["job"]})
            return False
        self._tell(link, {**header, "path": str(path)}, b"")
        return True

    def _tell(self, link: int, message: dict[str, Any], tail: bytes) -> None:
        self._send("from", tail, engine=self.number, link=link, message=message)

    def _failed(self, link: int, error: BaseException) -> None:
        if link != self._link:
            return
        # As a line of the child's: the bot keeps what was typed out of those.
        line = f"ERROR in the Ray driver: {_said(error)}"
        self._send("log", engine=self.number, link=link, text=line)
        silent = isinstance(error, TimeoutError)
        kind = EngineErrorKind.SILENT if silent else EngineErrorKind.DIED
        self._ended(link, kind, "its node gives no sign of life" if silent else _said(error))
        task = asyncio.create_task(self._let_go())
        task.add_done_callback(_note)

    def _ended(self, link: int, kind: EngineErrorKind, detail: str) -> None:
        self._open = False
        self._send("ended", engine=self.number, link=link, kind=kind.value, detail=detail)


def _write(path: Path, data: bytes) -> None:
    """Write a file that appears under its name only when it is complete."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)


def _said(error: BaseException) -> str:
    """Return the kind and the first line of an error of Ray's; the rest is its process table."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


def _note(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("in the Ray driver: %s", _said(error), exc_info=error)
