"""The link to an engine child, wherever it runs: what is sent and heard, and how the child ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from bot.engine.parent.child_log import ChildLog
from bot.engine.parent.inbox import Inbox


class ChildLink(ABC):
    """The parent's end of one child.

    The subclass carries messages to the child, fills `inbox` and `log` with what comes from it, and
    ends it.
    """

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.log = ChildLog()
        self.loaded = False
        """Whether the child has said that a model is ready."""
        self.loading: str | None = None
        """The model that it was told to load, until it answers."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The child's process id."""

    @abstractmethod
    async def send(self, kind: str, /, **fields: Any) -> None:
        """Send a message. A child that is gone shows in `inbox.receive`, not here."""

    @abstractmethod
    async def kill(self) -> None:
        """End the child at once and take back everything it held. Idempotent."""

    @abstractmethod
    async def close(self, patience: float) -> None:
        """Let the child end; kill it after `patience` seconds."""
