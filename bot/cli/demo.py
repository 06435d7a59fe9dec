"""`python -m bot demo`: the whole bot on a loopback Discord, in the browser or for one picture."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from bot.app.app import App
from bot.app.beside import demo_settings, run_beside
from bot.app.signals import handle_signals
from bot.cli.browser import open_page, somebody_looks
from bot.domain.job import Job, JobState
from bot.errors import BotError, StartupError
from bot.logs import set_up_logging
from bot.sandbox.errors import Refusal
from bot.sandbox.model import Message
from bot.sandbox.people import Invocation, NoResponse
from bot.sandbox.server import HOST, Sandbox
from bot.words import _, speaking

# What the judges of `bench tiny` call right of the toy (tests/process/test_demo.py asks them).
FIRST_PROMPT: Final = "a red boat on a blue background"
FIRST_SEED: Final = 3
_LOCALES: Final = ("en-US", "zh-CN")
# Far above what the tiny model needs on a slow laptop, with its libraries' first import.
_PATIENCE_S: Final = 900.0


@asynccontextmanager
async def _open_sandbox(port: int, listen: str) -> AsyncGenerator[Sandbox]:
    sandbox = Sandbox(port, listen=listen)
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


async def demo(
    prompt: str | None,
    out: Path | None,
    port: int,
    data_dir: Path | None,
    *,
    browser: bool = True,
    listen: str = HOST,
) -> None:
    """Run the demo until a signal, or for one picture when `prompt` is given.

    With `browser` the page is opened once the bot is online, where somebody can see it.
    Raises `StartupError` when it cannot start and `BotError` when the one picture fails.
    """
    once = prompt is not None
    if out is not None and not out.parent.is_dir():
        raise BotError(f"There is no folder {out.parent} to write the picture to.")
    set_up_logging("WARNING" if once else "INFO")
    async with _open_sandbox(0 if once else port, listen) as sandbox:

        async def work(app: App) -> None:
            if prompt is not None:
                _say(f'Drawing "{prompt}" …')
            elif browser and somebody_looks():
                open_page(sandbox.url)
            try:
                if prompt is None:
                    job, message = await _draw(sandbox, app, FIRST_PROMPT, seed=FIRST_SEED)
                else:
                    job, message = await _draw(sandbox, app, prompt)
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
        settings = demo_settings(sandbox, data_dir, http_port)
        if not once:
            _say(f"The demo is open at {sandbox.url} (Ctrl+C ends it).")
        if all(spec.built_in for spec in settings.models):
            sandbox.world.notices = {locale: _notice(locale) for locale in _LOCALES}
        app = App(settings, guild_ready_timeout=0.01)
        received = handle_signals(asyncio.get_running_loop(), app.stop)
        try:
            await run_beside(app, work)
        except BotError:
            if not received:  # Otherwise nothing failed: it was stopped.
                raise
        if once and received:
            _stopped_by(received[0])


def _stopped_by(number: int) -> None:
    """Raise what says to the command line that a signal came before the picture."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise BotError("Stopped before the end.")


def _notice(locale: str) -> str:
    with speaking(locale):
        return _(
            "Demo: a toy of 11 million parameters draws here. It knows shapes, simple things and "
            "short words; Qwen-Image draws anything."
        )


async def _draw(
    sandbox: Sandbox, app: App, prompt: str, *, seed: int | None = None
) -> tuple[Job, Message]:
    """Have Alice run `/imagine`, and wait until she sees the outcome."""
    given: dict[str, Any] = {} if seed is None else {"seed": seed}
    alice = sandbox.user("alice")
    invocation: Invocation = await alice.slash("general", "imagine", prompt=prompt, **given)
    await invocation.response()
    answer = await invocation.answer(_PATIENCE_S)
    if not answer.controls:
        raise BotError(answer.text or "The bot did not answer.")
    outcome = await invocation.until(_is_outcome, timeout=_PATIENCE_S)
    job = await app.client.services.queue.job(_job_id(outcome) or "")
    if job is None:
        raise BotError("The finished message names no job.")
    await app.client.services.courier.settled(job.id)
    return job, outcome


def _job_id(message: Message) -> str | None:
    for item in message.controls:
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
        # What the user sees, not the file on the bot's disk: the demo shows the whole way.
        await asyncio.to_thread(out.write_bytes, message.files[0].data)
        _say(f"Written to {out}.")


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()
