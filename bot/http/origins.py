"""Pages of other origins: which may use the API from a browser (CORS).

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

_METHODS: Final = ("DELETE", "GET", "HEAD", "POST")
# What pages may read of an answer besides the body.
_EXPOSED: Final = (
    *("Content-Disposition", "ETag", "Location", "Retry-After", "WWW-Authenticate"),
    *("X-Job-Id", "X-Request-Id", "x-should-retry"),
)
_PREFLIGHT_S: Final = 7200
"""How long a browser remembers what it may send; Chromium's longest."""


def open_to(app: ASGIApp, origins: Collection[str]) -> ASGIApp:
    """Return an application that pages of these origins may use; `*` is any.

    It stands before the check of the key: what a browser asks first, whether it may send one,
    carries none. Cookies open nothing here and are not allowed; a page without a key gets as far as
    any other program without one.
    """
    if not origins:
        return app
    # Every header: OpenAI's clients send a dozen of their own.
    return CORSMiddleware(
        app,
        allow_origins=tuple(origins),
        allow_methods=_METHODS,
        allow_headers=("*",),
        expose_headers=_EXPOSED,
        max_age=_PREFLIGHT_S,
    )
