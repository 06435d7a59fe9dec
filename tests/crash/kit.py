"""A bot that can be killed: its processes, what its users see, and its database from outside."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

from bot.sandbox.events import Event, MessageCreated, MessageDeleted, MessageUpdated
from bot.sandbox.model import Message
from bot.sandbox.server import Sandbox
from storage.backup import connect_read_only
from storage.migrate import prepare, read_migrations
from tests.crash.runner import Plan

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 50
# One person may have all of a storm's jobs open.
UNLIMITED = {
    "limit_open_jobs": 10_000,
    "limit_images_per_day": 10_000_000,
    "limit_queue_size": 100_000,
    "limit_server_queue_size": 0,
    "limit_gpu_seconds_per_day": 0,
}


class Bot:
    """The bot in a process of its own, started again and again on one data folder."""

    def __init__(self, sandbox: Sandbox, data: Path, **settings: Any) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self.sandbox = sandbox
        self.data = data
        self.settings = {name.upper(): str(value) for name, value in settings.items()}
        self.process: asyncio.subprocess.Process | None = None
        self.starts = 0
        self.commits: list[str] = []
        """What the process that was started last has committed so far (see `runner.name_of`)."""
        self._reading: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def database(self) -> Path:
        return self.data / "bot.sqlite3"

    def log(self) -> str:
        return (self.data / "bot.log").read_text(encoding="utf-8")

    async def start(self, plan: Plan | None = None) -> None:
        """Start the process; `ready` says when it is online."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = {
            **kept,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
            "DISCORD_API_URL": self.sandbox.api_url,
            "DATA_DIR": str(self.data),
            "IMAGE_MODEL_NAME": "tiny",
            **self.settings,
            **(plan or Plan()).environment(),
        }
        with (self.data / "bot.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.crash.runner",
                env=environment, cwd=self.data, stdout=asyncio.subprocess.PIPE, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.starts += 1
        self.commits = []
        self._reading = asyncio.create_task(self._read(self.process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Note commits, and have whoever waits on the sandbox look again."""
        assert process.stdout is not None
        commits = self.commits
        async for line in process.stdout:
            commits.append(line.decode().strip())
            self.sandbox.world.events.wake()

    async def ready(self) -> bool:
        """Wait until the bot is online, or has ended; say whether it is online."""
        online = asyncio.create_task(self.sandbox.ready(PATIENCE_S))
        ended = asyncio.create_task(self.ended())
        await asyncio.wait({online, ended}, return_when=asyncio.FIRST_COMPLETED)
        for task in (online, ended):
            task.cancel()
        await asyncio.gather(online, ended, return_exceptions=True)
        return self.alive and self.sandbox.gateway.connected

    async def ended(self, patience_s: float | None = PATIENCE_S) -> int:
        """Wait for the end of the process, however it comes, and until the gateway knows it."""
        assert self.process is not None
        async with asyncio.timeout(patience_s):
            code = await self.process.wait()
            if self._reading is not None:
                await asyncio.shield(self._reading)
        await self.sandbox.wait(lambda: not self.sandbox.gateway.connected)
        # Nobody resumes the session of a process that is gone.
        self.sandbox.gateway.invalidate()
        return code

    def kill(self) -> None:
        """Kill the process, and only it, as an out-of-memory killer would."""
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)

    async def stop(self) -> int:
        """End the process as systemd would; return its exit code."""
        assert self.process is not None
        if self.alive:
            self.process.terminate()
        return await self.ended()

    def engine_pids(self) -> list[int]:
        """The bot's child processes."""
        found: list[int] = []
        for task in Path(f"/proc/{self.pid}/task").glob("*/children"):
            try:
                found += [int(pid) for pid in task.read_text().split()]
            except OSError:
                continue
        return found


@asynccontextmanager
async def bot_on(sandbox: Sandbox, data: Path, **settings: Any) -> AsyncIterator[Bot]:
    """A bot that is not started yet, and is dead when the block ends."""
    bot = Bot(sandbox, data, **settings)
    try:
        yield bot
    finally:
        if bot.alive:
            bot.kill()
            await bot.ended()


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The database as another process sees it."""
    with closing(connect_read_only(path)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


def rows(path: Path, sql: str, *params: Any) -> list[dict[str, Any]]:
    with reading(path) as connection:
        return [dict(row) for row in connection.execute(sql, params)]


def choose(bot: Bot, notices: Mapping[str, str]) -> None:
    """Let users choose how they learn of answers that took long, before the first start."""
    prepare(bot.database, read_migrations())
    with closing(sqlite3.connect(bot.database)) as connection:
        for name, notice in notices.items():
            connection.execute(
                "INSERT INTO users (id, name, first_seen, last_seen, settings)"
                " VALUES (?, '', 0, 0, ?)",
                (bot.sandbox.user(name).id, json.dumps({"notice": notice})),
            )
        connection.commit()


class Answers:
    """The answers that stand in the sandbox, by job id, kept up to date with every event."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.outcomes: defaultdict[str, dict[int, Message]] = defaultdict(dict)
        """Messages that show how a job ended."""
        self.promises: defaultdict[str, dict[int, Message]] = defaultdict(dict)
        """Messages that say that a job waits or runs."""
        self.promised: set[str] = set()
        """Jobs that some user was ever told of."""
        sandbox.world.events.listen(self._on_event)

    def _on_event(self, event: Event) -> None:
        if not isinstance(event, MessageCreated | MessageUpdated | MessageDeleted):
            return
        message = event.message
        actions = set(actions_of(message))
        for job_id in jobs_of(message):
            self.promised.add(job_id)
            for kinds, found in ((ENDED, self.outcomes), (("cancel",), self.promises)):
                if not message.deleted and any((kind, job_id) in actions for kind in kinds):
                    found[job_id][message.id] = message
                else:
                    found[job_id].pop(message.id, None)


ENDED = ("reroll", "own")
"""Buttons of which one stands under each answer: a picture's, and a rewritten prompt's."""


def actions_of(message: Message) -> list[tuple[str, str]]:
    """The buttons of a message as (action, job id); with `.1` behind it for one of its pictures."""
    parts = [str(item.get("custom_id")).partition(":") for item in message.controls]
    return [(action, job_id) for action, _, job_id in parts]


def jobs_of(message: Message) -> set[str]:
    """The jobs that the buttons of a message are about."""
    return {target.partition(".")[0] for _, target in actions_of(message)}


def wrong_pictures(bot: Bot, message: Message) -> list[str]:
    """What is wrong with the pictures of an answer, compared with what was recorded."""
    (job_id,) = jobs_of(message)
    recorded = rows(bot.database, "SELECT * FROM images WHERE job_id = ? ORDER BY 2", job_id)
    wanted = [(f"{job_id}_{row['position']}.png", row["sha256"]) for row in recorded]
    posted = [(file.filename, hashlib.sha256(file.data).hexdigest()) for file in message.files]
    kept = [
        (f"{job_id}_{row['position']}.png", _digest(bot.data / "images" / row["file"]))
        for row in recorded
    ]
    wrong = [] if recorded else [f"{job_id}: no picture is recorded"]
    wrong += [] if posted == wanted else [f"{job_id}: posted {posted}, recorded {wanted}"]
    return wrong + ([] if kept == wanted else [f"{job_id}: kept {kept}, recorded {wanted}"])


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"


def is_running(pid: int) -> bool:
    """Whether the process lives (a zombie does not)."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False)
    state = done.stdout.decode().strip()
    return bool(state) and not state.startswith("Z")
