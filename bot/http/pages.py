"""The description of the API, for people and for programs; each is written once."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Final, cast

from fastapi import APIRouter, FastAPI, Header, Request
from starlette.responses import Response

from bot.http.description import POLICY, page_of

router = APIRouter(include_in_schema=False)

# Clients ask again each time, and are told 304 until the bot is another version.
_CACHED: Final = {"Cache-Control": "no-cache"}


@dataclass(frozen=True, slots=True)
class _Page:
    content: bytes
    media_type: str
    tag: str


class Pages:
    """Both pages of an application, made when first asked for."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._made: asyncio.Task[dict[str, _Page]] | None = None

    async def page(self, path: str) -> _Page:
        """Return the page of a path."""
        if self._made is None:
            self._made = asyncio.create_task(asyncio.to_thread(self._make))
        # Whoever hangs up must not take it away from the others.
        return (await asyncio.shield(self._made))[path]

    def _make(self) -> dict[str, _Page]:
        description = self._app.openapi()
        texts = {
            "/openapi.json": (json.dumps(description, ensure_ascii=False), "application/json"),
            "/docs": (page_of(description), "text/html"),
        }
        return {
            path: _Page(
                content := text.encode(),
                media_type,
                f'"{hashlib.sha256(content).hexdigest()[:32]}"',
            )
            for path, (text, media_type) in texts.items()
        }


IfNoneMatch = Annotated[str | None, Header()]


@router.head("/openapi.json")
@router.get("/openapi.json")
async def openapi(request: Request, if_none_match: IfNoneMatch = None) -> Response:
    """Return the OpenAPI description."""
    return await _answer(request, if_none_match)


@router.head("/docs")
@router.get("/docs")
async def docs(request: Request, if_none_match: IfNoneMatch = None) -> Response:
    """Return the page for people."""
    answer = await _answer(request, if_none_match)
    answer.headers["Content-Security-Policy"] = POLICY
    return answer


async def _answer(request: Request, known: str | None) -> Response:
    page = await cast("Pages", request.app.state.pages).page(request.url.path)
    headers = {**_CACHED, "ETag": page.tag}
    if known is not None and page.tag in known:
        return Response(status_code=304, headers=headers)
    return Response(page.content, media_type=page.media_type, headers=headers)
