"""What people did with the bot of commit c520ff5, from its first picture to its kill."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from tests.crash.runner import TINY, Plan

OLD = Path.cwd()
HERE = Path(__file__).parent
PATIENCE_S = 60


class OldBot:
    """The bot's process in the folder of an installation, with its `.env` there."""

    def __init__(self, sandbox: Any, root: Path) -> None:
        self.sandbox, self.root = sandbox, root
        self.process: Any = None

    async def start(self, pipeline: str, port: int) -> None:
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME")},
            "PYTHONPATH": os.pathsep.join((str(OLD), str(HERE))),
            "DISCORD_API_URL": self.sandbox.api_url,
            "HTTP_PORT": str(port),
            **Plan(pipeline=pipeline).environment(),
        }
        if pipeline == TINY:
            environment["ENGINES"] = "local"
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.crash.runner",
            cwd=self.root, env=environment, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await self.sandbox.ready(PATIENCE_S)

    async def end(self, how: int) -> None:
        self.process.send_signal(how)
        await self.process.wait()
        await self.sandbox.wait(lambda: not self.sandbox.gateway.connected)
        self.sandbox.gateway.invalidate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def png(colour: str, size: tuple[int, int] = (96, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def job_of(message: Any) -> str:
    return next(
        str(item["custom_id"]).partition(":")[2].partition(".")[0] for item in message.controls
    )


def is_outcome(message: Any) -> bool:
    return any(str(item.get("custom_id")).startswith("reroll:") for item in message.controls)


class Story:
    """What people did; `jobs` and `messages` have names by which the drill knows them."""

    def __init__(self, bot: OldBot) -> None:
        self.bot, self.sandbox = bot, bot.sandbox
        self.jobs: dict[str, str] = {}
        self.messages: dict[str, int] = {}
        self.forms: dict[str, int] = {}

    def rows(self, sql: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(self.bot.root / "data" / "bot.sqlite3")) as database:
            return database.execute(sql, values).fetchall()

    async def settled(self, sql: str, *values: Any) -> None:
        """Wait until a query finds something; what the bot records comes after what it sends."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.rows(sql, *values):  # noqa: ASYNC110 - another process tells no event
                await asyncio.sleep(0.02)

    async def ask(self, who: str, channel: str, name: str, prompt: str, **options: Any) -> Any:
        asked = await self.sandbox.user(who).slash(channel, "imagine", prompt=prompt, **options)
        return await self.drawn(asked, name)

    async def drawn(self, asked: Any, name: str) -> Any:
        message = await asked.until(lambda m: is_outcome(m) or not (m.thinking or m.controls))
        assert message.controls, message.content
        message = await asked.until(is_outcome, PATIENCE_S)
        self.jobs[name], self.messages[name] = job_of(message), message.id
        done = "SELECT 1 FROM deliveries WHERE job_id = ? AND state = 'delivered'"
        await self.settled(done, self.jobs[name])
        return message

    async def waits(self, who: str, channel: str, name: str, prompt: str, **options: Any) -> Any:
        asked = await self.sandbox.user(who).slash(channel, "imagine", prompt=prompt, **options)
        message = await asked.until(lambda found: found.controls, PATIENCE_S)
        self.jobs[name], self.messages[name] = job_of(message), message.id
        return message

    async def say(self, who: str, command: str, channel: str = "general", **options: Any) -> Any:
        used = await self.sandbox.user(who).slash(channel, command, **options)
        return await used.answer(PATIENCE_S)

    async def form(self, name: str, used: Any) -> Any:
        response = await used.response(PATIENCE_S)
        assert response.modal is not None, name
        self.forms[name] = used.interaction.id
        return used

    async def first_day(self) -> None:
        """Draw a real picture, with the tiny model in its child."""
        await self.ask("bob", "general", "tiny", "a red circle", seed=7, style="watercolour")

    async def server(self) -> None:
        """Set what a server's admin sets."""
        alice = self.sandbox.user("alice")
        guild = self.sandbox.world.guild.id
        roles = {role.name: role.id for role in self.sandbox.world.guild.roles.values()}
        await self.say(
            "alice", "admin style add", name="House Look", prompt="teal and gold", negative="red"
        )
        await self.say("alice", "admin limit server", images=600, minutes=400.0)
        await self.say("alice", "admin limit role", role=guild, images=80)
        await self.say("alice", "admin limit role", role=roles["Admin"], minutes=90.0, weight=2.0)
        await self.say("alice", "admin rule add", rule="forbidden fruit")
        art = alice.place("art").id
        await self.say("alice", "admin moderation reports", where=art)
        await self.say("alice", "admin moderation policy", restricted="spoiler", elsewhere="dm")
        panel = await self.say("alice", "admin defaults")
        for menu, value in (("aspect", "3:2"), ("quality", "fast")):
            await (await alice.select(panel, f"prefs:guild:{menu}", value)).response()
        self.messages["server panel"] = panel.id

    async def people(self) -> None:
        """Set what users set for themselves."""
        bob, chen = self.sandbox.user("bob"), self.sandbox.user("chen")
        panel = await self.say("bob", "settings")
        self.messages["bob's panel"] = panel.id
        for menu, value in (("aspect", "1:1"), ("quality", "standard"), ("style", "anime")):
            await (await bob.select(panel, f"prefs:user:{menu}", value)).response()
        opened = await bob.press(panel, "pref:user:negative")
        await opened.response()
        await (await bob.submit_modal(opened, {"negative": "blurry hands"})).answer()
        panel = await self.say("chen", "settings")
        await (await chen.select(panel, "prefs:user:language", "en")).response()

    async def pictures(self) -> None:
        """Draw all kinds of pictures."""
        alice, bob, chen = (self.sandbox.user(name) for name in ("alice", "bob", "chen"))
        await self.ask("alice", "art", "single", "a lighthouse at dusk", seed=11)
        await self.ask("bob", "general", "plain", "a plain of grass")
        batch = await self.ask("bob", "general", "batch", "three boats", count=3, seed=21)
        await self.ask(
            "bob", "general", "start", "in oil", image=("start.png", png("teal")), strength=0.5
        )
        await self.ask("bob", "general", "private", "a secret garden", private=True)
        await self.ask(
            "alice", "general", "lora", "a heron",
            lora="Ink", lora_strength=0.5, quality="high", style="House Look", negative="fog",
        )  # fmt: skip
        await self.ask("chen", "general", "chens", "一座桥", seed=5)
        await self.ask("mallory", "general", "mallorys", "a locked door")
        await self.ask("bob", "lounge", "elsewhere", "far from home")
        await self.ask("alice", "general", "failed", "broken mirror")
        await bob.send("dm", "a boat by message")
        done = lambda: next((m for m in bob.messages("dm") if is_outcome(m)), None)  # noqa: E731
        message = await self.sandbox.wait(done, PATIENCE_S)
        self.jobs["by message"], self.messages["by message"] = job_of(message), message.id
        picked = await chen.select(batch, f"pick:{job_of(batch)}", "1")
        shown = await picked.until(lambda found: found.files, PATIENCE_S)
        self.messages["picked"] = shown.id
        await self.drawn(await alice.press(shown, f"vary:{job_of(batch)}.1"), "varied")
        gone = await self.ask("chen", "general", "deleted", "not for long")
        await chen.press(gone, f"delete:{job_of(gone)}")
        await self.sandbox.wait(lambda: gone.deleted, PATIENCE_S)
        for name in ("to cancel", "to delete", "to report"):
            await self.ask("chen", "general", name, f"{name}, a picture")

    async def incidents(self) -> None:
        """Report, pause, cancel, block."""
        alice, chen = self.sandbox.user("alice"), self.sandbox.user("chen")
        general = {m.id: m for m in alice.messages("general")}
        menu = await alice.context_menu("general", "Report", general[self.messages["to report"]])
        await menu.response()
        await (await alice.submit_modal(menu, {"reason": "it bites"})).answer()
        (report,) = [m for m in alice.messages("art") if "rdelete" in str(m.controls)]
        self.messages["report"] = report.id
        await self.say("alice", "admin pause", reason="a new fan")
        waiting = await self.waits("chen", "general", "cancelled", "never drawn")
        await chen.press(waiting, f"cancel:{job_of(waiting)}")
        await self.settled(
            "SELECT 1 FROM deliveries WHERE job_id = ? AND state = 'delivered'", job_of(waiting)
        )
        await self.say("alice", "admin resume")
        mallory = self.sandbox.user("mallory").id
        await self.say("alice", "admin block add", user=mallory, reason="spam")
        await self.say("alice", "admin channel deny", where=alice.place("art").id)
        await self.say("alice", "admin engine pause", engine="local-1")

    async def over_http(self, port: int) -> None:
        """Ask with alice's key: one answered, one drawn and never fetched."""
        headers = {"Authorization": "Bearer alices-key-0123456789"}
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_S) as client:
            body = {"prompt": "a house over HTTP", "seed": 31, "num_inference_steps": 3}
            path = "/api/v1/images/generate"
            answer = await client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            self.jobs["http"] = self.rows("SELECT id FROM jobs WHERE target = 'http'")[0][0]
            body = {"prompt": "left at the counter", "seed": 32, "count": 2}
            accepted = (await client.post(f"{path}?async=true", json=body)).json()
            self.jobs["http unfetched"] = accepted["id"]
            ended = "SELECT 1 FROM jobs WHERE id = ? AND state = 'generated'"
            await self.settled(ended, accepted["id"])

    async def left_open(self) -> None:
        """Leave lists and forms open, as they are when a bot is stopped for an update."""
        alice, bob, chen = (self.sandbox.user(name) for name in ("alice", "bob", "chen"))
        for name, who, command in (
            ("history", "bob", "history"),
            ("queue", "bob", "queue"),
            ("audit", "alice", "admin audit"),
            ("wipe", "mallory", "privacy delete"),
        ):
            self.messages[name] = (await self.say(who, command)).id
        general = {m.id: m for m in bob.messages("general")}
        for message in alice.messages("general"):
            general.setdefault(message.id, message)
        await self.form(
            "new", await bob.slash("general", "imagine", aspect="9:16", seed=77, style="anime")
        )
        heron = general[self.messages["lora"]]
        await self.form("edit", await alice.press(heron, f"edit:{self.jobs['lora']}"))
        started = general[self.messages["start"]]
        await self.form("use", await bob.context_menu("general", "Use as input", started))
        panel = general[self.messages["bob's panel"]]
        await self.form("negative", await bob.press(panel, "pref:user:negative"))
        await self.form("report", await chen.context_menu("general", "Report", heron))

    async def last_moments(self, port: int) -> None:
        """An answer on its way, a job drawing, two that wait; then the kill."""
        answer = lambda exchange: "reroll:" in str(exchange.request)  # noqa: E731
        held = self.sandbox.faults.hold("PATCH", "/webhooks/*", times=None, when=answer)
        await self.waits("alice", "general", "undelivered", "a letter on its way", seed=41)
        async with asyncio.timeout(PATIENCE_S):
            await held.reached.wait()
        await self.waits("bob", "general", "interrupted", "slow river", seed=42)
        running = "SELECT 1 FROM jobs WHERE id = ? AND state = 'running'"
        await self.settled(running, self.jobs["interrupted"])
        await self.waits("chen", "general", "waiting", "patience", seed=43)
        headers = {"Authorization": "Bearer bobs-key-9876543210"}
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, headers=headers) as client:
            body = {"prompt": "waits over HTTP", "seed": 44}
            accepted = await client.post("/api/v1/images/generate?async=true", json=body)
            self.jobs["http waiting"] = accepted.json()["id"]
        self.messages["chen's queue"] = (await self.say("chen", "queue")).id
        self.messages["admin queue"] = (await self.say("alice", "admin queue")).id
        await self.bot.end(signal.SIGKILL)
