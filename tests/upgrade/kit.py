"""This code's bot at work in the folder of an old one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bot.app.app import App
from bot.sandbox.model import Message
from bot.sandbox.people import Invocation
from bot.sandbox.server import Sandbox
from tests.engines import ScriptedEngine
from tests.http.kit import Api
from tests.upgrade.installation import Installation
from tests.upgrade.scene import find, ids, said, set_up
from tests.wire.kit import PATIENCE_S, Stage, soon


class Drill:
    """The old installation with this code's bot at work on it."""

    def __init__(self, old: Installation, stage: Stage, resting: ScriptedEngine) -> None:
        self.old, self.stage, self.sandbox = old, stage, stage.sandbox
        self.resting = resting
        """The engine local-1, which was paused by its name."""

    @property
    def engine(self) -> ScriptedEngine:
        return self.stage.engine

    @property
    def api(self) -> Api:
        return Api(self.stage)

    def message(self, name: str) -> Message:
        """An old message, as it stands now."""
        return find(self.sandbox.world, self.old.scene["named"][name])

    def form(self, name: str) -> Invocation:
        """What opened a form that was open when the old bot ended."""
        key = self.old.scene["forms"][name]
        return Invocation(self.sandbox.world, self.sandbox.world.interactions[key])

    def answers(self, job: str) -> list[Message]:
        """Every message of a job's own, anywhere: how it ended, or that it has not ended."""
        target = self.old.jobs[job]
        return [
            message
            for channel in self.sandbox.world.channels.values()
            for message in channel.messages.values()
            if {f"reroll:{target}", f"cancel:{target}"} & set(ids(message))
            and "refresh:queue" not in ids(message)
        ]

    async def settled(self, job: str) -> Message:
        """Wait until an old job has its answer, and no message that waits; return the answer."""
        await self.stage.delivered(self.old.jobs[job])
        await self.sandbox.wait(lambda: len(self.answers(job)) == 1)
        (message,) = self.answers(job)
        return message

    async def say(self, who: str, command: str, channel: str = "general", **options: Any) -> str:
        """Use a command; return all that its answer says."""
        used = await self.sandbox.user(who).slash(channel, command, **options)
        return said(await used.answer(PATIENCE_S))

    async def press(self, who: str, name: str, action: str) -> Invocation:
        """Press the one button of an old message whose id begins with `action`."""
        message = self.message(name)
        (custom_id,) = [one for one in ids(message) if f"{one}:".startswith(f"{action}:")]
        return await self.sandbox.user(who).press(message, custom_id)


@asynccontextmanager
async def upgraded(
    sandbox: Sandbox, old: Installation, engine: ScriptedEngine | None = None, **changes: Any
) -> AsyncIterator[Drill]:
    """Start this code's bot in the old folder, by the old `.env`; again, if it ran before."""
    if not sandbox.world.interactions:
        set_up(sandbox, old)
    values = {"discord_api_url": sandbox.api_url, "http_port": 0, "log_dir": "-", **changes}
    drawing, resting = engine or ScriptedEngine(), ScriptedEngine()
    app = App(
        old.settings(**values),
        engines=[drawing, resting],
        guild_ready_timeout=0.01,
    )
    run = asyncio.create_task(app.run())
    ready = asyncio.create_task(app.ready.wait())
    try:
        await soon(asyncio.wait({run, ready}, return_when=asyncio.FIRST_COMPLETED))
        if run.done():
            await run
        yield Drill(old, Stage(sandbox, app, drawing, run), resting)
    finally:
        ready.cancel()
        app.stop()
        await asyncio.gather(run, return_exceptions=True)
    if error := run.exception():
        raise error
