"""First responses on their way, so that nothing overtakes them.

Between a job's commit and Discord's answer to the first response, the message that the courier
would edit does not exist yet. A fast job could end in that gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

# Past this the first response has failed for good; Discord's own limit is 3 s plus retries.
_PATIENCE_S: Final = 30.0


class Acknowledgements:
    """The sources (see `Origin.source_id`) whose first response is being sent."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Event] = {}

    @contextmanager
    def sending(self, source_id: str) -> Generator[None]:
        """Mark the first response to `source_id` as on its way while the block runs."""
        done = self._open.setdefault(source_id, asyncio.Event())
        try:
            yield
        finally:
            done.set()
            self._open.pop(source_id, None)

    async def wait(self, source_id: str) -> None:
        """Return when the first response to `source_id` is through, failed, or takes too long."""
        done = self._open.get(source_id)
        if done is None:
            return
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await done.wait()
        except TimeoutError:
            return
