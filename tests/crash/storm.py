"""Random kills: people ask for pictures while both processes die and Discord has bad days.

`python -m bot bench storm --jobs N --kills K --seed S`. The bot is the one of `python -m bot run`
with the real engine child, SQLite file and sockets; only the pipeline in the child is a quick one,
unless `--pipeline tiny` asks for the real tiny model.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from bot.sandbox.errors import Refusal
from bot.sandbox.exchanges import Exchange
from bot.sandbox.model import Message, Progress
from bot.sandbox.people import NoResponse, Person
from bot.sandbox.server import Sandbox
from tests.crash.judge import Report, judge
from tests.crash.kit import (
    ENDED,
    UNLIMITED,
    Answers,
    Bot,
    actions_of,
    bot_on,
    choose,
    is_running,
    jobs_of,
    rows,
)
from tests.crash.runner import TINY, Plan

USERS = ("alice", "bob", "chen", "mallory")
CHANNELS = ("general", "art")
NOTICES = {"bob": "direct", "chen": "quiet"}  # The others have chosen nothing.
OPEN_EACH = 5
BOT_SHARE, TOKEN_S = 0.6, 15 * 60
# Faults meet these; a bot that can't even log in would make the storm a test of patience.
ROUTES = ("/interactions/", "/webhooks/", "/channels/", "/users/@me/channels")
PATIENCE_S = 6.0  # What people wait for a first answer before they ask again.


class Storm:
    """One storm; `run` returns its report."""

    def __init__(
        self,
        bot: Bot,
        *,
        jobs: int,
        kills: int,
        seed: int,
        plan: Plan,
        weather: float = 1.0,
        steady_line: bool = False,
        stall_s: float = 90.0,
        kill_pause_s: float = 0.4,
        engines: int = 1,
        texts: bool = False,
    ) -> None:
        self.bot = bot
        self.sandbox = bot.sandbox
        self.answers = Answers(self.sandbox)
        self.report = Report()
        self._jobs, self._kills, self._plan = jobs, kills, plan
        self._weather, self._stall_s, self._kill_pause_s = weather, stall_s, kill_pause_s
        self._line = 0 if steady_line else 1
        self._engine_count = engines
        self._texts = texts
        # One source of chance for each actor, so that one's delays do not change the others' plans.
        self._chance = {
            name: random.Random(f"{seed} {name}")
            for name in ("people", "bot", "engine", "rest", "gateway", "plans", "texts")
        }
        self._finished = 0
        self._over = False
        self._cancel_wishes: set[str] = set()
        self._engines: set[int] = set()
        self._restarted = asyncio.Event()

    async def run(self) -> Report:
        began = time.monotonic()
        self._make_weather()
        supervisor = asyncio.create_task(self._supervise())
        helpers = [
            asyncio.create_task(self._gateway_weather()),
            asyncio.create_task(self._wait(self._all_engines_seen)),
        ]
        killers = [
            asyncio.create_task(self._kill_bot(round(self._kills * BOT_SHARE))),
            asyncio.create_task(self._kill_engine(self._kills - round(self._kills * BOT_SHARE))),
        ]
        people = [asyncio.create_task(self._person(name)) for name in USERS]
        try:
            await self._until_quiet([*people, *killers], supervisor)
            self.sandbox.faults.clear()
            helpers[0].cancel()
            await self._until_settled()
        finally:
            self._over = True
            for task in (*people, *killers, *helpers):
                task.cancel()
            await asyncio.gather(*people, *killers, *helpers, return_exceptions=True)
        if self.bot.alive:
            self.bot.process.terminate()
        await supervisor
        judge(self.bot, self.answers, self._cancel_wishes, self.report)
        for pid in self._engines:
            if is_running(pid):
                self.report.wrong.append(f"engine child {pid} outlived the bot")
        self.report.bot_starts = self.bot.starts
        self.report.seconds = round(time.monotonic() - began, 1)
        return self.report

    @property
    def _all_killed(self) -> bool:
        return self.report.kills_bot + self.report.kills_engine >= self._kills

    # Those who wait for the end

    async def _until_quiet(
        self, tasks: list[asyncio.Task[None]], supervisor: asyncio.Task[None]
    ) -> None:
        """Wait for the people and the killers; give up when nothing gets on for long."""
        ended = asyncio.ensure_future(asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION))
        last = 0
        while not ended.done():
            await asyncio.wait(
                {ended, supervisor}, timeout=self._stall_s, return_when=asyncio.FIRST_COMPLETED
            )
            if supervisor.done():
                await supervisor
            if not ended.done() and self._finished == last:
                self.report.stuck.append(f"nothing ended for {self._stall_s:.0f} s")
                ended.cancel()
                return
            last = self._finished
        for task in tasks:
            await task

    async def _until_settled(self) -> None:
        """Wait until every job has its answer, as long as the bot gets on with it."""
        unsettled = """
            SELECT j.id FROM jobs AS j JOIN deliveries AS d ON d.job_id = j.id
            WHERE d.state NOT IN ('delivered', 'undeliverable') OR d.remove_at IS NOT NULL LIMIT 1
        """

        def moved(seen: int) -> bool:
            return len(self.bot.commits) != seen

        seen = len(self.bot.commits)
        while rows(self.bot.database, unsettled):
            try:
                await self.sandbox.wait(partial(moved, seen), self._stall_s)
            except TimeoutError:
                return
            seen = len(self.bot.commits)

    # Those who start and kill

    async def _supervise(self) -> None:
        """Start the bot whenever it has ended, as systemd would."""
        chance = self._chance["plans"]
        while not self._over:
            # A short nonce window sends the second attempts to the channel's history instead.
            window, long_s = chance.choice((None, None, 0.2)), chance.choice((None, 0.3, 0.3))
            plan = replace(self._plan, nonce_window_s=window, long_s=long_s)
            await self.bot.start(plan)
            self._restarted.set()
            code = await self.bot.ended(None)
            self._restarted.clear()
            if code not in (-9, 0) or (code == 0 and not self._over):
                self.report.wrong.append(f"the bot ended by itself with {code}")
                if len(self.report.wrong) > 100:
                    return

    async def _kill_bot(self, times: int) -> None:
        chance = self._chance["bot"]
        for number in range(times):
            if chance.random() > 0.15:  # Else right after the last one, while it recovers.
                await self._due(number, times)
            await self._restarted.wait()
            await asyncio.sleep(chance.uniform(0, 2 * self._kill_pause_s))
            await self._restarted.wait()
            self.bot.kill()
            self._restarted.clear()
            self.report.kills_bot += 1

    async def _kill_engine(self, times: int) -> None:
        chance = self._chance["engine"]
        for number in range(times):
            await self._due(number, times)
            await asyncio.sleep(chance.uniform(0, 2 * self._kill_pause_s))
            await self._wait(self._killed_engine)

    def _engine_pids(self) -> list[int]:
        pids = self.bot.engine_pids() if self.bot.alive else []
        self._engines.update(pids)
        self.report.engines_at_once = max(self.report.engines_at_once, len(pids))
        return pids

    def _all_engines_seen(self) -> bool:
        return len(self._engine_pids()) >= self._engine_count

    def _killed_engine(self) -> bool:
        pids = self._engine_pids()
        # Of several, another one each time.
        turn = self.report.kills_engine % max(1, len(pids))
        for pid in [*pids[turn:], *pids[:turn]]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.report.kills_engine += 1
                return True
        return False

    async def _due(self, number: int, times: int) -> None:
        """Wait until the work has come as far as kill `number` of `times`."""
        await self._wait(lambda: self._finished >= self._jobs * number / times)

    async def _wait(self, condition: Any) -> Any:
        return await self.sandbox.wait(condition, timeout=24 * 3600)

    # Those who ask

    async def _person(self, name: str) -> None:
        chance = self._chance["people"]
        slots = asyncio.Semaphore(OPEN_EACH)
        share = self._jobs // len(USERS) + (USERS.index(name) < self._jobs % len(USERS))
        person = self.sandbox.user(name)
        async with asyncio.TaskGroup() as group:
            # Whoever is to be killed needs work until then.
            for number in count():
                if number >= share and self._all_killed:
                    break
                await slots.acquire()
                wish = chance.choices(("public", "private", "dm", "cancel"), (55, 15, 15, 15))[0]
                task = group.create_task(self._want(person, f"{name} {number}", wish))
                task.add_done_callback(lambda _: slots.release())

    async def _want(self, person: Person, prompt: str, wish: str) -> None:
        """Ask until the bot says yes, and wait for what comes of it."""
        job_id = None
        while job_id is None:
            await self._wait(lambda: self.sandbox.gateway.connected)
            self.report.requests += 1
            if wish == "dm":
                job_id = await self._by_message(person, prompt)
            else:
                job_id = await self._by_command(person, prompt, wish)
        if wish == "cancel":
            await self._cancel(person, job_id)
        await self._wait(lambda: self.answers.outcomes[job_id])
        self._finished += 1
        self.sandbox.world.events.wake()

    async def _by_command(self, person: Person, prompt: str, wish: str) -> str | None:
        chance = self._chance["people"]
        options = {"prompt": prompt, "count": chance.choice((1, 1, 1, 2)), "quality": "fast"}
        if wish == "private":
            options["private"] = True
        if self._texts:
            options["enhance"] = self._chance["texts"].choice(("off", "ask", "always"))
        try:
            channel = chance.choice(CHANNELS)
            invocation = await person.slash(channel, "imagine", **options)
            await invocation.response(PATIENCE_S)
            answer = await invocation.answer(PATIENCE_S)
        except (NoResponse, Refusal, TimeoutError):
            return None
        return _job_of(answer)

    async def _by_message(self, person: Person, prompt: str) -> str | None:
        asked = await person.send("dm", prompt)

        def reply() -> Message | None:
            mine = person.messages("dm")
            return next((m for m in reversed(mine) if m.reference is asked), None)

        try:
            return _job_of(await self.sandbox.wait(reply, PATIENCE_S))
        except TimeoutError:
            return None

    async def _cancel(self, person: Person, job_id: str) -> None:
        await asyncio.sleep(self._chance["people"].uniform(0, 0.5))
        for message in list(self.answers.promises[job_id].values()):
            with suppress(Refusal, KeyError):
                self._cancel_wishes.add(job_id)
                await person.press(message, f"cancel:{job_id}")

    # The weather

    def _make_weather(self) -> None:
        faults, share = self.sandbox.faults, self._weather

        def sometimes(name: str, likely: float) -> Any:
            chance = self._chance["rest"]

            def met(exchange: Exchange) -> bool:
                if not exchange.path.startswith(ROUTES) or chance.random() > likely * share:
                    return False
                counted = self.report.discord_faults
                counted[name] = counted.get(name, 0) + 1
                return True

            return met

        for status in (500, 502, 503):
            faults.respond("*", "*", status, times=None, when=sometimes(str(status), 0.005))
        faults.respond("*", "*", 503, after=True, times=None, when=sometimes("503 after", 0.02))
        faults.reset("*", "*", times=None, when=sometimes("reset", 0.02))
        faults.reset("*", "*", after=True, times=None, when=sometimes("reset after", 0.03))
        faults.rate_limit("*", "*", 0.05, times=None, when=sometimes("429", 0.02))
        faults.rate_limit("*", "*", 0.3, via=False, times=None, when=sometimes("429 ban", 0.003))

    async def _gateway_weather(self) -> None:
        chance, gateway = self._chance["gateway"], self.sandbox.gateway
        while self._weather:
            await asyncio.sleep(chance.uniform(0.2, 1.0) / self._weather)
            act = chance.choices(
                ("drop", "close", "reconnect", "invalidate", "replay", "expire"),
                (self._line, self._line, self._line, self._line, 8, 12),
            )[0]
            counted = self.report.discord_faults
            counted[act] = counted.get(act, 0) + 1
            match act:
                case "drop":
                    gateway.drop()
                case "close":
                    gateway.close(4000)
                case "reconnect":
                    gateway.reconnect()
                case "invalidate":
                    gateway.invalidate()
                case "replay":
                    recent = list(self.sandbox.world.interactions.values())[-20:]
                    if recent:
                        gateway.replay(chance.choice(recent))
                case _:
                    self._expire_tokens(chance)

    def _expire_tokens(self, chance: random.Random) -> None:
        """Make some tokens 15 minutes old.

        Moving the sandbox's clock instead would also age the nonces of requests that are in flight.
        A token that has carried the answer lives on: if it died before the bot knows of that, a
        private answer would come again as a direct message (see docs/guarantees.md).
        """
        for interaction in list(self.sandbox.world.interactions.values())[-20:]:
            message = interaction.original
            if message is None or any(action in ENDED for action, _ in actions_of(message)):
                continue
            if interaction.progress is Progress.ANSWERED and chance.random() < 0.3:
                interaction.created -= TOKEN_S


def _job_of(message: Message) -> str | None:
    return next(iter(jobs_of(message)), None)


async def storm(
    jobs: int,
    kills: int,
    seed: int,
    data: Path,
    *,
    pipeline: str | None = None,
    engines: int = 1,
    sabotage: tuple[str, ...] = (),
    **options: Any,
) -> Report:
    """Run one storm on a new sandbox and the data folder `data`."""
    plan = Plan(sabotage=sabotage) if pipeline is None else Plan(pipeline, sabotage=sabotage)
    settings = {"engines": f"local:{engines}", **UNLIMITED}
    if options.get("texts"):
        settings["image_model_name"] = "tiny-edit"
    async with Sandbox() as sandbox, bot_on(sandbox, data, **settings) as bot:
        choose(bot, NOTICES)
        how = {"jobs": jobs, "kills": kills, "seed": seed, "engines": engines, **options}
        return await Storm(bot, plan=plan, **how).run()


def main(
    jobs: int, kills: int, seed: int, pipeline: str, engines: int
) -> tuple[dict[str, Any], list[str]]:
    """Run a storm in a temporary folder; return its figures and what must not be."""
    with tempfile.TemporaryDirectory() as folder:
        name = TINY if pipeline == "tiny" else None
        report = asyncio.run(storm(jobs, kills, seed, Path(folder), pipeline=name, engines=engines))
    return report.figures(), report.faults
