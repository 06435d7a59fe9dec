"""Request bodies: JSON, or multipart with `payload_json` and `files[n]`."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any, Final, cast

from aiohttp import BodyPartReader, web

from bot.sandbox.errors import ApiError, Json, Refusal

BODY_S: Final = 60.0
KEEP_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of one file that are kept; the rest is read and dropped, only the size counts."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One uploaded file as it arrived."""

    index: int
    filename: str
    data: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Body:
    """A parsed request body; `json` is a dict, a list (command sync) or None."""

    json: Any
    uploads: list[Upload]

    @property
    def fields(self) -> Json:
        """Return the body as an object, empty where it is none."""
        return cast("Json", self.json) if isinstance(self.json, dict) else {}


async def read_body(request: web.Request) -> Body:
    """Read the whole body; raise error 50109 where it is no JSON, `Refusal` where it never ends."""
    try:
        async with asyncio.timeout(BODY_S):
            return await _read(request)
    except TimeoutError:
        raise Refusal(408, "The body did not arrive in time.") from None


async def _read(request: web.Request) -> Body:
    if not request.content_type.startswith("multipart/"):
        text = await request.text()
        return Body(_parse(text) if text else None, [])
    payload: Any = {}
    uploads: list[Upload] = []
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            continue
        match = re.fullmatch(r"files\[(\d+)\]", part.name or "")
        if match:
            uploads.append(await _read_file(part, int(match[1])))
        elif part.name == "payload_json":
            payload = _parse(await part.text())
    return Body(payload, uploads)


async def _read_file(part: BodyPartReader, index: int) -> Upload:
    # A reply before the upload has ended would reach the client as a reset, so all is read.
    data = bytearray()
    size = 0
    while chunk := await part.read_chunk(1 << 16):
        size += len(chunk)
        if len(data) < KEEP_LIMIT:
            data += chunk
    return Upload(index, part.filename or "unknown", bytes(data), size)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        message = "The request body contains invalid JSON."
        raise ApiError(400, 50109, message) from None
