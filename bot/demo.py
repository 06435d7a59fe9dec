"""`python -m bot demo`: the whole bot on a loopback Discord, in the browser or for one picture."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from bot.app import App, handle_signals
from bot.errors import BotError, StartupError
from bot.http.keys import NONE
from bot.jobs.model import Job, JobState
from bot.logs import set_up_logging
from bot.sandbox.errors import Refusal
from bot.sandbox.model import Message
from bot.sandbox.people import Invocation, NoResponse
from bot.sandbox.server import Sandbox
from bot.settings import Settings, load_settings

FIRST_PROMPT: Final = "a lighthouse at night"
_DATA: Final = Path("data/demo")
# Far above what the tiny model needs on a slow laptop, with its libraries' first import.
_PATIENCE_S: Final = 900.0


def demo_settings(
    sandbox: Sandbox, data_dir: Path | None, http_port: int | None = None
) -> Settings:
    """Return the settings of a demo: the sandbox's address, the tiny model unless one is named.

    With `http_port` this machine may use the HTTP API without a key, unless one is set.
    """
    http: dict[str, Any] = {}
    if http_port is None:
        http["api_keys"] = None
    elif not os.environ.get("API_KEYS"):
        http |= {"api_keys": NONE, "http_host": "127.0.0.1"}
        if not os.environ.get("HTTP_PORT"):
            http["http_port"] = http_port
    return load_settings(
        **http,
        discord_token=None,
        discord_api_url=sandbox.api_url,
        data_dir=data_dir or _DATA,
        image_model_name=os.environ.get("IMAGE_MODEL_NAME") or "tiny",
    )


@asynccontextmanager
async def _open_sandbox(port: int) -> AsyncGenerator[Sandbox]:
    sandbox = Sandbox(port)
    try:
        await sandbox.__aenter__()
    except (OSError, OverflowError):
        raise StartupError(
            f"Port {port} cannot be used; choose another with `python -m bot demo --port N`."
        ) from None
    try:
        yield sandbox
    finally:
        await sandbox.__aexit__(None, None, None)


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


async def demo(prompt: str | None, out: Path | None, port: int, data_dir: Path | None) -> None:
    """Run the demo until a signal, or for one picture when `prompt` is given.

    Raises `StartupError` when it cannot start and `BotError` when the one picture fails.
    """
    once = prompt is not None
    if out is not None and not out.parent.is_dir():
        raise BotError(f"There is no folder {out.parent} to write the picture to.")
    set_up_logging("WARNING" if once else "INFO")
    async with _open_sandbox(0 if once else port) as sandbox:

        async def work(app: App) -> None:
            if not once:
                _say(f"The demo is open at {sandbox.url} (Ctrl+C ends it).")
                if app.door:
                    _say(f"Its HTTP API is described at {app.door.url}/docs.")
            try:
                job, message = await _draw(sandbox, app, prompt or FIRST_PROMPT)
            except (Refusal, NoResponse, TimeoutError) as error:
                raise BotError(str(error) or "The picture took too long.") from error
            path = await _saved(app, job)
            _say(f"The picture was saved as {path}." if path else f"{job.state}: {job.error}")
            if once:
                await _finish_once(job, message, out)
            else:
                await app.stopping.wait()

        # Beside the page's port, so that a second demo with another port gets its own.
        http_port = None if once else port + 1 if port else 0
        app = App(demo_settings(sandbox, data_dir, http_port), guild_ready_timeout=0.01)
        handle_signals(asyncio.get_running_loop(), app.stop)
        await run_beside(app, work)


async def _draw(sandbox: Sandbox, app: App, prompt: str) -> tuple[Job, Message]:
    """Have Alice run `/imagine`, and wait until she sees the outcome."""
    invocation: Invocation = await sandbox.user("alice").slash("general", "imagine", prompt=prompt)
    await invocation.response()
    answer = await invocation.answer(_PATIENCE_S)
    if not answer.embeds:
        raise BotError(answer.content or "The bot did not answer.")
    outcome = await invocation.until(_is_outcome, timeout=_PATIENCE_S)
    job = await app.client.services.queue.job(_job_id(outcome) or "")
    if job is None:
        raise BotError("The finished message names no job.")
    await app.client.services.courier.settled(job.id)
    return job, outcome


def _job_id(message: Message) -> str | None:
    for row in message.components:
        for item in row.get("components", ()):
            action, _, job_id = str(item.get("custom_id", "")).partition(":")
            if action == "reroll":
                return job_id
    return None


def _is_outcome(message: Message) -> bool:
    return _job_id(message) is not None


async def _saved(app: App, job: Job) -> Path | None:
    images = await app.client.services.queue.images(job.id)
    return app.settings.images_dir / images[0].file if images else None


async def _finish_once(job: Job, message: Message, out: Path | None) -> None:
    if job.state is not JobState.GENERATED or not message.files:
        raise BotError(job.error or "No picture was made.")
    if out is not None:
        # What the user sees, not the file on the bot's disk: the whole way is to be shown.
        await asyncio.to_thread(out.write_bytes, message.files[0].data)
        _say(f"Written to {out}.")


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()
