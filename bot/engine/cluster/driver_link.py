"""The driver's end of the link between an engine and its child: what the bot is told on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bot.errors import EngineErrorKind


class DriverLink:
    """The link of the engine numbered `engine`; `send(kind, tail, **fields)` speaks to the bot.

    `number` is the present link's; a new child gets a new one, and what is said under an old number
    the bot no longer hears. `open`: the child is there, and messages may be handed to it.
    """

    def __init__(self, engine: int, send: Callable[..., None]) -> None:
        self._engine = engine
        self._send = send
        self.number = 0
        self.open = False

    def tell(self, link: int, message: dict[str, Any], tail: bytes = b"") -> None:
        """Hand on a message of the child's."""
        self._send("from", tail, engine=self._engine, link=link, message=message)

    def log(self, link: int, text: str) -> None:
        """Hand on a log line of the child's: the bot keeps what was typed out of those."""
        self._send("log", engine=self._engine, link=link, text=text)

    def end(self, link: int, kind: EngineErrorKind, detail: str) -> None:
        """Tell that the child has ended, and why; nothing is handed to it from now on."""
        self.open = False
        self._send("ended", engine=self._engine, link=link, kind=kind.value, detail=detail)
