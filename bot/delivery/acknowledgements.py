"""Acknowledgements: first responses on their way, so that nothing overtakes them.

Between a job's commit and Discord's answer to the first response, the message that the courier
would edit does not exist yet. A fast job could end in that gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

# Past this the first response has failed for good; Discord's own limit is 3 s plus retries.
_PATIENCE_S: Final = 30.0


@dataclass(slots=True)
class _Sending:
    count: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Acknowledgements:
    """The sources (see `Origin.source_id`) whose first response is being sent."""

    def __init__(self) -> None:
        self._open: dict[str, _Sending] = {}

    @contextmanager
    def sending(self, source_id: str) -> Generator[None]:
        """Mark the first response to `source_id` as on its way while the block runs."""
        # A replayed event is handled beside the first one: the one that leaves last counts.
        sending = self._open.setdefault(source_id, _Sending())
        sending.count += 1
        try:
            yield
        finally:
            sending.count -= 1
            if not sending.count:
                sending.done.set()
                del self._open[source_id]

    async def wait(self, source_id: str) -> None:
        """Return when the first response to `source_id` is through, failed, or takes too long."""
        sending = self._open.get(source_id)
        if sending is None:
            return
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await sending.done.wait()
        except TimeoutError:
            return

    async def all_sent(self) -> None:
        """Return when no first response is on its way."""
        while self._open:
            await next(iter(self._open.values())).done.wait()
