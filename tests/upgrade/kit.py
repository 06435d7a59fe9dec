"""An old installation unpacked, its Discord set up again, and this code's bot started on it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bot.app.app import App
from bot.config.settings import Settings, load_settings
from bot.sandbox.model import (
    File,
    Interaction,
    InteractionType,
    Message,
    Modal,
    Progress,
    walk,
)
from bot.sandbox.people import Invocation
from bot.sandbox.server import Sandbox
from bot.sandbox.world import World
from tests.engines import ScriptedEngine
from tests.http.kit import Api
from tests.wire.kit import PATIENCE_S, Stage, soon, text_of

ARCHIVE = Path(__file__).parent / "c520ff5" / "installation.tar.xz"


def unpack(folder: Path) -> None:
    """Unpack with the files' times, which the FP8 cache goes by."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")


@dataclass(frozen=True)
class Installation:
    """The folder of an old bot; jobs, messages and forms have names (c520ff5/story.py)."""

    root: Path

    @cached_property
    def scene(self) -> dict[str, Any]:
        return json.loads((self.root / "discord" / "scene.json").read_text("utf-8"))

    @property
    def jobs(self) -> dict[str, str]:
        return self.scene["jobs"]

    @property
    def images(self) -> Path:
        return self.root / "data" / "images"

    def settings(self, **changes: Any) -> Settings:
        """What this code reads in the old `.env`."""
        return load_settings(_env_file=self.root / ".env", **changes)

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """Ask the database; a write-ahead log that is there counts."""
        with closing(sqlite3.connect(self.root / "data" / "bot.sqlite3")) as database:
            return database.execute(sql, values).fetchall()

    def pictures(self, job: str) -> list[str]:
        """The SHA-256 of a job's pictures, as they are recorded."""
        sql = "SELECT sha256 FROM images WHERE job_id = ? ORDER BY position"
        return [row[0] for row in self.rows(sql, self.jobs[job])]

    def reference(self, name: str) -> Any:
        return json.loads((self.root / "expected" / name).read_text("utf-8"))


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
        """Wait until an old job has its answer; return it."""
        await self.stage.delivered(self.old.jobs[job])
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


def find(world: World, message_id: int) -> Message:
    for channel in world.channels.values():
        if message_id in channel.messages:
            return channel.messages[message_id]
    raise KeyError(message_id)


def ids(message: Message) -> list[str]:
    return [str(item["custom_id"]) for item in message.controls if "custom_id" in item]


def said(message: Message) -> str:
    """All that a message says, its embeds' fields too."""
    fields = [
        f"{field['name']}: {field['value']}"
        for embed in message.embeds
        for field in embed.get("fields", ())
    ]
    return "\n".join([text_of(message), *fields])


def filled_in(modal: Modal) -> dict[str, str]:
    """What stands in the fields of a form already."""
    return {
        item["custom_id"]: item.get("value", "")
        for item in walk(modal.components)
        if item["type"] == 4
    }


def digests(message: Message) -> list[str]:
    return [hashlib.sha256(file.data).hexdigest() for file in message.files]


def set_up(sandbox: Sandbox, old: Installation) -> None:
    """Put the old messages into the sandbox, and let the open forms be open."""
    world, text = sandbox.world, json.dumps(old.scene).replace("SANDBOX", sandbox.url)
    scene = json.loads(text)
    for user in world.users.values():
        if not user.bot:
            world.dm(user)
    for row in scene["interactions"]:
        world.interactions[row["id"]] = Interaction(
            row["id"], f"expired-{row['id']}", InteractionType(row["type"]),
            world.user(row["user"]), world.channel(row["channel"]), row["created"], {},
            name=row["name"], progress=Progress.ANSWERED,
            modal=Modal(**row["modal"]) if row["modal"] else None,
        )  # fmt: skip
    for row in sorted(scene["messages"], key=lambda row: row["id"]):
        _put(world, old, row)
    for row in scene["interactions"]:
        if row["message"]:
            world.interactions[row["id"]].message = find(world, row["message"])


def _put(world: World, old: Installation, row: dict[str, Any]) -> None:
    channel = world.channel(row["channel"])
    message = Message(row["id"], channel, world.user(row["author"]), row["created"], row["type"])
    for name in ("content", "embeds", "components", "flags", "edited", "nonce"):
        setattr(message, name, row[name])
    for about in row["files"]:
        values = dict(about)
        data = (old.root / "discord" / values.pop("sha256")).read_bytes()
        file = File(data=data, **values)
        world.files[file.id] = file
        message.files.append(file)
    message.mentions = [world.user(key) for key in row["mentions"]]
    message.interaction = world.interactions.get(row["interaction"] or 0)
    message.reference = channel.messages.get(row["reference"] or 0)
    message.visible_to = world.user(row["visible_to"]) if row["visible_to"] else None
    if message.interaction is not None:
        message.interaction.original = message
    channel.messages[message.id] = message


def old_controls(old: Installation) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every control of every old message: (message, control), as they stood."""
    for row in old.scene["messages"]:
        for item in walk(row["components"]):
            if "custom_id" in item:
                yield row, item


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
