"""The bot in this process against a sandbox: the real client over real sockets."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bot.app.app import App
from bot.config.settings import load_settings
from bot.domain.job import Job
from bot.engine.protocol import Engine
from bot.rules.verdicts import ImageCheck
from bot.sandbox.exchanges import Exchange
from bot.sandbox.layouts import GALLERY
from bot.sandbox.model import Message, walk
from bot.sandbox.people import Invocation
from bot.sandbox.server import Sandbox
from storage import deliveries
from storage.deliveries import Delivery
from tests.engines import ScriptedEngine

PATIENCE_S = 30


class Stage:
    """A sandbox, a running bot and its engine."""

    def __init__(self, sandbox: Sandbox, app: App, engine: Any, run: asyncio.Task[None]) -> None:
        self.sandbox = sandbox
        self.app = app
        self.engine = engine
        self.run = run
        self._offset = 0.0

    @property
    def queue(self):
        return self.app.client.services.queue

    @property
    def database(self):
        return self.app.client.services.database

    async def imagine(self, name: str, prompt: str, channel: str = "general", **options: Any):
        return await self.sandbox.user(name).slash(channel, "imagine", prompt=prompt, **options)

    async def in_turn(self, name: str, *prompts: str) -> list[Invocation]:
        """Ask for pictures of which each is in the queue before the next is asked for."""
        asked = []
        for prompt in prompts:
            asked.append(await self.imagine(name, prompt))
            await asked[-1].response()
        return asked

    async def outcome(self, invocation: Invocation) -> Message:
        return await invocation.until(is_outcome, timeout=PATIENCE_S)

    async def job_of(self, message: Message) -> Job:
        job = await self.queue.job(job_id_of(message))
        assert job is not None
        return job

    async def delivery(self, job_id: str) -> Delivery:
        found = await self.database.read(lambda tx: deliveries.get(tx, job_id))
        assert found is not None
        return found

    async def delivered(self, job_id: str) -> Delivery:
        """Wait until the answer is recorded as delivered or kept."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.app.client.services.courier.settled(job_id)

    async def postponed(self, job_id: str) -> Delivery:
        """Wait until an attempt has failed and the next is put off."""
        attempted = self.app.client.services.courier._attempted
        async with asyncio.timeout(PATIENCE_S), attempted:
            while True:
                found = await self.delivery(job_id)
                if found.state == "pending" and found.error:
                    return found
                await attempted.wait()

    async def fetched(self, job_id: str) -> None:
        """Wait until a kept answer is recorded as fetched by its user."""
        attempted = self.app.client.services.courier._attempted
        async with asyncio.timeout(PATIENCE_S), attempted:
            while (await self.delivery(job_id)).state != "delivered":
                await attempted.wait()

    async def jobs_made(self) -> int:
        return await self.database.read(lambda tx: tx.value("SELECT count(*) FROM jobs"))

    async def ended(self) -> None:
        """Wait until the bot has stopped by itself."""
        await asyncio.wait({self.run})

    def advance(self, seconds: float) -> None:
        """Move Discord's clock and the bot's own."""
        self.sandbox.clock.advance(seconds)
        self._offset += seconds
        courier = self.app.client.services.courier
        queue = self.queue
        queued = (queue, queue.commits, queue.control, queue.claims)
        delivering = (courier, courier._ladder, courier._progress, courier._removals)
        for part in (*delivering, *queued):
            part._clock = lambda: time.time() + self._offset
        self.app.breaker._clock = lambda: time.monotonic() + self._offset
        courier._wake.set()
        courier._removals.wake()

    async def prefer(self, notice: str, *names: str) -> None:
        """Let users choose how they learn of answers that took long."""
        for name in names:
            user_id = self.sandbox.user(name).id
            preferences = self.app.client.services.preferences
            await preferences.set_user(user_id, {"notice": notice})

    def visible(self, name: str = "alice", channel: str = "general") -> list[Message]:
        """Return the answers that a user sees."""
        return [m for m in self.sandbox.user(name).messages(channel) if is_outcome(m)]

    async def asked(self, name: str = "alice", channel: str = "general", **options: Any):
        """Ask for a picture whose drawing waits; return its message and job id."""
        invocation = await self.imagine(name, "a house", channel, **options)
        message = await invocation.answer()
        await soon(self.engine.holding.wait())
        # Also where Discord's reply to the first response was lost, and is asked for again.
        await soon(self.app.client.services.intake.settled())
        return message, job_id_of(message)

    async def cut(self) -> None:
        """End the bot as a kill would; with `sudden`, nothing in flight is recorded any more."""
        self.run.cancel()
        await asyncio.gather(self.run, return_exceptions=True)

    async def stop(self) -> None:
        self.app.stop()
        await self.run


async def soon(wait: Awaitable[Any]) -> Any:
    """Wait for something that has to happen, and fail if it never does."""
    async with asyncio.timeout(PATIENCE_S):
        return await wait


def controls(message: Message) -> list[str]:
    return [str(item.get("custom_id")) for item in message.controls]


def job_id_of(message: Message) -> str:
    return controls(message)[0].partition(":")[2].partition(".")[0]


def is_outcome(message: Message) -> bool:
    """Say whether a message is a job's answer; one picture that was taken out is none."""
    return any(re.fullmatch(r"reroll:[^.]+", custom_id) for custom_id in controls(message))


def is_answer(exchange: Exchange) -> bool:
    """Say whether a request carries a job's answer, and not its progress."""
    return "reroll:" in str(exchange.request)


def text_of(message: Message) -> str:
    embeds = " ".join(str(embed.get("description", "")) for embed in message.embeds)
    return f"{message.text} {embeds}".strip()


def byline_of(message: Message) -> list[str]:
    """The parts of a card's small line: for whom it is, and what it is."""
    (line,) = [line for line in message.text.splitlines() if line.startswith("-# ")]
    return line.removeprefix("-# ").split(" · ")


def gallery_of(message: Message) -> list[dict[str, Any]]:
    """The pictures of a card's gallery; it is the one thing that shows any."""
    galleries = [item for item in walk(message.components) if item["type"] == GALLERY]
    assert len(galleries) <= 1
    assert not message.attachments
    assert not message.embeds
    return [entry for gallery in galleries for entry in gallery["items"]]


@asynccontextmanager
async def staged(
    sandbox: Sandbox,
    data: Path,
    engine: Engine | None = None,
    check: ImageCheck | None = None,
    **settings: Any,
) -> AsyncIterator[Stage]:
    """Run the bot against `sandbox`; with a scripted engine unless one is given."""
    engine = engine or ScriptedEngine()
    values = {"image_model_name": "tiny", "data_dir": data, "discord_token": None, **settings}
    app = App(
        load_settings(discord_api_url=sandbox.api_url, _env_file=None, **values),
        engines=[engine],
        check=check,
        guild_ready_timeout=0.01,
    )
    run = asyncio.create_task(app.run())
    ready = asyncio.create_task(app.ready.wait())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait({run, ready}, return_when=asyncio.FIRST_COMPLETED)
        if run.done():
            await run
        yield Stage(sandbox, app, engine, run)
    finally:
        ready.cancel()
        app.stop()
        # A failed test may have left something held for which the bot would wait for ever.
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(run, return_exceptions=True)
    if not run.cancelled() and (error := run.exception()):
        raise error
