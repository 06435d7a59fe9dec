"""The description of the API, for people and for programs."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, JSONResponse

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def openapi(request: Request) -> JSONResponse:
    """Return the OpenAPI description; it is made once."""
    app = cast("FastAPI", request.app)
    description: dict[str, Any] = await asyncio.to_thread(app.openapi)
    return JSONResponse(description)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Return the page; its script comes from a public network of copies (jsDelivr)."""
    return get_swagger_ui_html(openapi_url="/openapi.json", title="Qwen-Image bot")
