"""Server-sent events, as every stream here sends them.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Final

from starlette.responses import StreamingResponse

KEEP_ALIVE_S: Final = 15.0
"""Seconds after which something is said: proxies commonly cut a connection that is silent for a
minute."""
STILL_THERE: Final = ": still there\n\n"
"""A comment, which clients pass over."""


def event_stream(events: AsyncGenerator[str], headers: Mapping[str, str]) -> StreamingResponse:
    """Return the answer that sends events as they come."""
    return StreamingResponse(
        events,
        media_type="text/event-stream",
        # nginx would collect what is meant to arrive at once.
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **headers},
    )
