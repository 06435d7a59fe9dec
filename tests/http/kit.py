"""The whole bot with its HTTP API open, and a client of it over real sockets."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from bot.sandbox.server import Sandbox
from tests.wire.kit import PATIENCE_S, Stage, staged

ALICE, BOB = "alices-key-0123456789", "bobs-key-9876543210"
TWO_KEYS = f"alice:{ALICE}, bob:{BOB}"
GENERATE = "/api/v1/images/generate"
OPENAI = "/v1/images/generations"

# The request example of the server that this project came from, letter by letter.
SEED_EXAMPLE = """{
  "prompt": "A beautiful sunset over mountains",
  "num_inference_steps": 40,
  "width": 1344,
  "height": 768,
  "seed": 12345
}"""


class Api:
    """A running bot with its door, and clients of it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.url = stage.app.door.url
        self.port = int(self.url.rpartition(":")[2])

    def client(self, key: str | None = None, **options: Any) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=PATIENCE_S, limits=limits, **options
        )

    async def one(self, sql: str, *params: Any) -> Any:
        return await self.stage.database.read(lambda tx: tx.value(sql, params))


@asynccontextmanager
async def opened(
    sandbox: Sandbox, data: Path, keys: str = "none", engine: Any = None, **settings: Any
) -> AsyncIterator[Api]:
    values = {"http_port": 0, "api_keys": keys, **settings}
    async with staged(sandbox, data, engine, **values) as stage:
        yield Api(stage)


def png_of(data_url: str) -> Image.Image:
    kind, _, data = data_url.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def raw_post(api: Api, path: str, body: dict[str, Any]) -> bytes:
    """Return a request as it goes over the wire."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def events_of(response: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Yield server-sent events until the stream ends."""
    name = ""
    async with asyncio.timeout(PATIENCE_S):
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))
