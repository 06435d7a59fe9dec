"""Swagger UI and ReDoc over the API's description, from files of this package alone.

They are others' scripts in the API's own origin, unlike `/docs`, which has none: nothing in them
comes from elsewhere or goes there, which the policy of their pages makes sure of.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Header
from starlette.responses import RedirectResponse, Response

from bot.http.errors import Problem

router = APIRouter(include_in_schema=False)

_FOLDER: Final = Path(__file__).parent / "page"
_FILES: Final = {
    "swagger-ui.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "swagger-start.js": "text/javascript",
    "redoc.js": "text/javascript",
    "redoc-start.js": "text/javascript",
    "LICENSES.txt": "text/plain",
}
PATHS: Final = frozenset(
    {"/", "/docs/swagger", "/docs/redoc", *(f"/docs/files/{name}" for name in _FILES)}
)
"""What is open to anyone, as the description is."""
# Both write styles into the page; data: are their own icons.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""The pages' Content-Security-Policy: the files beside them, and requests to this API alone."""
# Addresses are relative: a proxy may have the API under a path of its own.
_PAGE: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<title>The HTTP API</title><link rel="icon" href="data:,">{styles}</head><body>'
    '<div id="page"></div><noscript>This page needs scripts; <a href="../docs">this one</a> does '
    "not.</noscript>{scripts}</body></html>\n"
)


@dataclass(frozen=True, slots=True)
class _File:
    packed: bytes
    plain: bytes
    tag: str


@cache
def _file(name: str) -> _File:
    """Return a file, compressed and not. Blocking."""
    packed = _FOLDER / f"{name}.gz"
    plain = gzip.decompress(packed.read_bytes()) if packed.exists() else _read(name)
    tag = f'"{hashlib.sha256(plain).hexdigest()[:32]}"'
    return _File(packed.read_bytes() if packed.exists() else gzip.compress(plain), plain, tag)


def _read(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()


@router.head("/")
@router.get("/")
async def root() -> Response:
    """Lead to the description."""
    return RedirectResponse("docs")


@router.head("/docs/swagger")
@router.get("/docs/swagger")
async def swagger() -> Response:
    """Return the page of Swagger UI."""
    return _page(("swagger-ui.js", "swagger-start.js"), "swagger-ui.css")


@router.head("/docs/redoc")
@router.get("/docs/redoc")
async def redoc() -> Response:
    """Return the page of ReDoc."""
    return _page(("redoc.js", "redoc-start.js"))


@router.head("/docs/files/{name}")
@router.get("/docs/files/{name}")
async def file(
    name: str,
    accept_encoding: Annotated[str, Header()] = "",
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return a file of the pages."""
    if name not in _FILES:
        raise Problem(404, "There is no such file.")
    found = await asyncio.to_thread(_file, name)
    headers = {"Cache-Control": "no-cache", "ETag": found.tag, "Vary": "Accept-Encoding"}
    if if_none_match is not None and found.tag in if_none_match:
        return Response(status_code=304, headers=headers)
    if "gzip" in accept_encoding:
        headers["Content-Encoding"] = "gzip"
    content = found.packed if "gzip" in accept_encoding else found.plain
    return Response(content, media_type=_FILES[name], headers=headers)


def _page(scripts: tuple[str, ...], *styles: str) -> Response:
    text = _PAGE.format(
        styles="".join(f'<link rel="stylesheet" href="files/{name}">' for name in styles),
        scripts="".join(f'<script src="files/{name}"></script>' for name in scripts),
    )
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    return Response(text, media_type="text/html", headers=headers)
