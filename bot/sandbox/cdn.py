"""Uploaded files at `/attachments/{channel}/{id}/{filename}`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from bot.sandbox.world import World

_INLINE = ("image/png", "image/jpeg", "image/gif", "image/webp", "text/plain")


def serve_file(world: World) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return the handler; only pictures and plain text are shown, all else is a download."""

    async def handler(request: web.Request) -> web.Response:
        key = request.match_info["file_id"]
        file = world.files.get(int(key)) if key.isdecimal() else None
        if file is None or file.filename != request.match_info["filename"]:
            return web.Response(status=404, text="This content is no longer available.")
        # A user's HTML or SVG must not run as a part of the page.
        headers = {
            "Content-Security-Policy": "sandbox; default-src 'none'",
            "Cache-Control": "private, max-age=31536000, immutable",
        }
        kind = (file.content_type or "application/octet-stream").partition(";")[0]
        if kind not in _INLINE:
            headers["Content-Disposition"] = "attachment"
        return web.Response(body=file.data, content_type=kind, headers=headers)

    return handler
