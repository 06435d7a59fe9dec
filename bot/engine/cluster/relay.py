"""The relay of a child's answers from its node to the bot; pictures become files on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from bot.engine.cluster.actor_proxy import ANSWER_S, ActorProxy
from bot.engine.cluster.driver_link import DriverLink
from bot.errors import EngineErrorKind
from bot.errors.disk import refusal


class AnswerRelay:
    """The answers to one message (`load`, `generate`, `write`), handed on as the link `number`."""

    def __init__(
        self,
        actor: ActorProxy,
        link: DriverLink,
        number: int,
        message: dict[str, Any],
        *,
        silent_s: float,
    ) -> None:
        self._actor = actor
        self._link = link
        self._number = number
        self._message = message
        self._silent_s = silent_s
        self.begun = asyncio.Event()
        """Set when the child has the message, or no more answers will come."""

    async def run(self, stream: Any) -> None:
        """Hand on what `stream` holds until its end.

        Raises `TimeoutError` after `silent_s` seconds without a sign of life, and whatever Ray
        raises.
        """
        try:
            refused = False
            while True:
                async with asyncio.timeout(self._silent_s):
                    header, tail = await (await anext(stream))
                self.begun.set()
                match header["type"]:
                    case "beat":
                        pass
                    case "log":
                        self._link.log(self._number, str(header["text"]))
                    case "ended":
                        kind = EngineErrorKind(header["kind"])
                        self._link.end(self._number, kind, str(header["detail"]))
                    case "picture" if not refused:
                        refused = not await self._keep(header, tail)
                    case _ if not refused:
                        self._link.tell(self._number, header, tail)
                    case _:
                        pass
        except StopAsyncIteration:
            pass
        finally:
            self.begun.set()

    async def _keep(self, header: dict[str, Any], data: bytes) -> bool:
        """Write a picture where the bot wants it; return False when the disk refuses it."""
        message = self._message
        index, count = header.get("index"), len(message.get("seeds", ()))
        if not data or not isinstance(index, int) or not 0 <= index < count:
            # The bot will find it missing.
            self._link.tell(self._number, {**header, "path": ""})
            return True
        path = Path(message["output_dir"]) / f"{index}.png"
        try:
            await asyncio.to_thread(_write, path, data)
        except OSError as error:
            reason = refusal(error)
            kind = EngineErrorKind.DISK_REFUSED if reason else EngineErrorKind.RAISED
            detail = f"{type(error).__name__}: {error.strerror}"
            fields = {"kind": kind.value, "detail": detail, "sentence": reason, "values": {}}
            self._link.tell(self._number, {"type": "failed", "job": message["job"], **fields})
            cancel = {"type": "cancel", "job": message["job"]}
            await self._actor.ask(ANSWER_S, "send", cancel)
            return False
        self._link.tell(self._number, {**header, "path": str(path)})
        return True


def _write(path: Path, data: bytes) -> None:
    """Write a file that appears under its name only when it is complete."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
