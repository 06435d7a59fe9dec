"""The whole bot beside other work: settings of a demo, and a run that ends with the work."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from bot.app.app import App
from bot.config.api_keys import NONE
from bot.config.settings import Settings, load_settings
from bot.errors import BotError
from bot.sandbox.server import Sandbox

_DATA: Final = Path("data/demo")


def demo_settings(
    sandbox: Sandbox, data_dir: Path | None, http_port: int | None = None
) -> Settings:
    """Return the settings of a demo: the sandbox's address, the tiny model unless one is named.

    With `http_port` this machine may use the HTTP API without a key, unless one is set.
    """
    chosen: dict[str, Any] = {"backup_every_hours": 0}  # nothing there is to be kept
    if http_port is None:
        chosen["api_keys"] = None
    elif not os.environ.get("API_KEYS"):
        chosen |= {"api_keys": NONE, "http_host": "127.0.0.1"}
        chosen |= {"http_origins": frozenset[str](), "http_public_url": None}
        if not os.environ.get("HTTP_PORT"):
            chosen["http_port"] = http_port
    named = os.environ.get("IMAGE_MODEL_NAME")
    if not named and not os.environ.get("IMAGE_MODELS"):
        chosen["image_models"] = ("tiny", "tiny-ink", "tiny-edit")  # without a download
    return load_settings(
        **chosen,
        discord_token=None,
        discord_api_url=sandbox.api_url,
        data_dir=data_dir or _DATA,
        image_model_name=named or "tiny",
    )


async def run_beside(app: App, work: Callable[[App], Awaitable[None]]) -> None:
    """Run the bot, do `work` once it is online, stop it afterwards; raise what either raised."""
    run = asyncio.create_task(app.run())
    ready = asyncio.create_task(app.ready.wait())
    await asyncio.wait({run, ready}, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if run.done():
        await run
        return
    task = asyncio.ensure_future(work(app))
    await asyncio.wait({run, task}, return_when=asyncio.FIRST_COMPLETED)
    if run.done():
        task.cancel()
        await run
        raise BotError("Stopped before the end.")
    app.stop()
    await run
    await task
