"""Kill -9 at every boundary of one job's life: each commit and each request, before and after it.

After every kill the bot is started again, its user asks again where nothing was accepted, and then
there is exactly one visible answer, with the recorded picture.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bot.sandbox import messages
from bot.sandbox.exchanges import Exchange
from bot.sandbox.faults import Fault
from bot.sandbox.model import Message
from bot.sandbox.people import Invocation
from bot.sandbox.server import Sandbox
from tests.crash.kit import PATIENCE_S, Answers, Bot, bot_on, choose, rows, wrong_pictures
from tests.crash.runner import Plan

# Named points of a job's life, by the commit that they stand before or after.
NAMED = {"submit", "set_message", "claim", "record_generated", "intend", "delivered"}
TOKEN_S = 15 * 60

EDIT_BY_TOKEN = ("PATCH", "/webhooks/*")
EDIT_BY_BOT = ("PATCH", "/channels/*/messages/*")
POST = ("POST", "/channels/*/messages")


@dataclass(frozen=True)
class Way:
    """What closes the ways before the one that is to be taken, and the requests of that one."""

    route: tuple[str, str]
    rung: str
    options: dict[str, Any] = field(default_factory=dict)
    expired: bool = True
    message_gone: bool = False
    notice: str | None = None
    """How its user wants to be called; such a way is for jobs that take long."""


WAYS = {
    "token": Way(EDIT_BY_TOKEN, "token", expired=False),
    "edit": Way(EDIT_BY_BOT, "edit"),
    "channel": Way(POST, "channel", message_gone=True),
    "dm": Way(POST, "dm", {"private": True}),
    "reply": Way(POST, "reply", expired=False, notice="reply"),
    "direct": Way(POST, "direct", expired=False, notice="direct"),
}
NEVER_S = 1e9
REMOVE = ("DELETE", "/channels/*/messages/*")


class Life:
    """One bot, its user bob, one kill and the new start."""

    def __init__(self, bot: Bot, way: Way) -> None:
        self.bot = bot
        self.way = way
        self.answers = Answers(bot.sandbox)
        self.asked: list[Invocation] = []

    @property
    def sandbox(self) -> Sandbox:
        return self.bot.sandbox

    def outcomes(self) -> list[Message]:
        return [message for found in self.answers.outcomes.values() for message in found.values()]

    def jobs(self) -> list[dict[str, Any]]:
        if not self.bot.database.exists():
            return []
        return rows(
            self.bot.database,
            "SELECT j.*, d.state AS delivery, d.rung, d.remove_at, d.message_id FROM jobs AS j"
            " JOIN deliveries AS d ON d.job_id = j.id ORDER BY j.id",
        )

    def settled(self) -> bool:
        return all(
            job["delivery"] == "delivered" and job["remove_at"] is None for job in self.jobs()
        )

    def planned(self, plan: Plan | None) -> Plan:
        """Return the plan of a start, by which a job takes long where the way asks for that."""
        return replace(plan or Plan(), long_s=-1.0 if self.way.notice else NEVER_S)

    async def unless_dead(self, condition: Callable[[], object]) -> bool:
        """Wait for what users see; False when the bot dies before."""
        seen = asyncio.create_task(self.sandbox.wait(condition, PATIENCE_S))
        ended = asyncio.create_task(self.bot.ended(None))
        await asyncio.wait({seen, ended}, return_when=asyncio.FIRST_COMPLETED)
        happened = seen.done()
        for task in (seen, ended):
            task.cancel()
        await asyncio.gather(seen, ended, return_exceptions=True)
        return happened

    async def draw(self) -> None:
        """Ask, and wait for the answer as long as the bot lives."""
        bob = self.sandbox.user("bob")
        invocation = await bob.slash(
            "art", "imagine", prompt="a moon", quality="fast", **self.way.options
        )
        self.asked.append(invocation)
        if self.way.expired:
            invocation.interaction.created -= TOKEN_S
        await self.unless_dead(lambda: self.jobs() and self.settled())

    async def run(self, plan: Plan, fault: Fault | None) -> bool:
        """Ask a bot that dies by `plan` or at `fault`; say whether it did."""
        if self.way.message_gone:
            self.sandbox.faults.respond(*EDIT_BY_BOT, 404, code=10008, times=None)
        killer = asyncio.create_task(self._kill_at(fault)) if fault else None
        if self.way.notice:
            choose(self.bot, {"bob": self.way.notice})
        await self.bot.start(self.planned(plan))
        if await self.bot.ready():
            await self.draw()
        died = await self.bot.stop() != 0
        if fault and killer:
            killer.cancel()
            fault.times = 0
        return died

    async def _kill_at(self, fault: Fault) -> None:
        await fault.reached.wait()
        self.bot.kill()

    async def finish(self, plan: Plan | None = None) -> None:
        """Start the bot again, have the user ask again if need be, and check all there is."""
        await self.bot.start(self.planned(plan))
        assert await self.bot.ready()
        if not self.jobs():
            assert not self.outcomes()
            await self.draw()
        assert await self.unless_dead(self.settled)
        assert await self.bot.stop() == 0
        (job,) = self.jobs()
        assert (job["state"], job["delivery"]) == ("generated", "delivered")
        assert job["source_id"] in {f"i{asked.interaction.id}" for asked in self.asked}
        (message,) = self.outcomes()
        assert not wrong_pictures(self.bot, message)
        # A message whose id was never learnt can be neither removed nor edited by the bot itself.
        if self.way.notice and job["message_id"] is not None:
            assert job["rung"] == self.way.rung
            assert not any(self.answers.promises.values()), "a message still waits"


async def killed_at(
    tmp_path: Path,
    number: int,
    *,
    way: str = "token",
    plan: Plan | None = None,
    route: tuple[str, str] | None = None,
    acted: bool = False,
    again: Plan | None = None,
    commits: list[str] | None = None,
) -> bool:
    """Kill by `plan`, or at request `number` to `route`; check the next start; False: no kill."""
    async with Sandbox() as sandbox, bot_on(sandbox, tmp_path / f"{number}") as bot:
        life = Life(bot, WAYS[way])
        fault = None
        if route:
            fault = sandbox.faults.hold(*route, after=acted, when=_nth(number))
        died = await life.run(plan or Plan(), fault)
        if commits is not None:
            commits[:] = bot.commits
        await life.finish(again)
        return died


def _nth(number: int) -> Callable[[Exchange], bool]:
    calls = count(1)
    return lambda _: next(calls) == number


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_every_commit(tmp_path, after):
    commits: list[str] = []
    for number in count(1):
        plan = Plan(die_at=number, die_after=after)
        if not await killed_at(tmp_path, number, plan=plan, commits=commits):
            break
    # The last run was not killed, so these are the commits of a whole life.
    assert number > len(commits)
    assert set(commits) >= NAMED


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("acted", [False, True], ids=["lost", "acted"])
async def test_every_request(tmp_path, acted):
    for number in count(1):
        if not await killed_at(tmp_path, number, route=("*", "*"), acted=acted):
            break
    # Log in and synchronise the commands, then the first response and the answer at least.
    assert number > 5


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("way", ["edit", "channel", "dm", "reply", "direct"])
async def test_every_intent_and_record_of_a_way(tmp_path, way, after):
    for name in ("intend", "delivered", *(("removed",) if WAYS[way].notice else ())):
        for number in count(1):
            plan = Plan(die_at=number, die_in=name, die_after=after)
            if not await killed_at(tmp_path / name, number, way=way, plan=plan):
                break
        assert number > 1


@pytest.mark.slow
@pytest.mark.parametrize("acted", [False, True], ids=["lost", "acted"])
@pytest.mark.parametrize("way", ["edit", "channel", "dm", "reply", "direct"])
async def test_every_sending_of_a_way(tmp_path, way, acted):
    assert await killed_at(tmp_path, 1, way=way, route=WAYS[way].route, acted=acted)


@pytest.mark.slow
@pytest.mark.parametrize("acted", [False, True], ids=["lost", "acted"])
@pytest.mark.parametrize("way", ["reply", "direct"])
async def test_every_removal_of_a_waiting_message(tmp_path, way, acted):
    assert await killed_at(tmp_path, 1, way=way, route=REMOVE, acted=acted)


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("acted", [False, True], ids=["lost", "acted"])
async def test_every_request_of_a_job_that_took_long(tmp_path, acted):
    for number in count(1):
        if not await killed_at(tmp_path, number, way="reply", route=("*", "*"), acted=acted):
            break
    assert number > 5


@pytest.mark.parametrize(
    "way",
    ["token", "reply", *(pytest.param(w, marks=pytest.mark.slow) for w in ("channel", "direct"))],
)
async def test_sent_and_not_recorded(tmp_path, way):
    assert await killed_at(tmp_path, 1, way=way, plan=Plan(die_at=1, die_in="delivered"))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["channel", "reply", "direct"])
async def test_sent_and_looked_for_when_the_nonce_is_forgotten(tmp_path, monkeypatch, way):
    monkeypatch.setattr(messages, "NONCE_SECONDS", 0)
    plan, again = Plan(die_at=1, die_in="delivered"), Plan(nonce_window_s=0)
    assert await killed_at(tmp_path, 1, way=way, plan=plan, again=again)


@pytest.mark.slow
async def test_nothing_was_accepted_before_the_commit(tmp_path):
    async with Sandbox() as sandbox, bot_on(sandbox, tmp_path) as bot:
        life = Life(bot, WAYS["token"])
        assert await life.run(Plan(die_at=1, die_in="submit"), None)
        assert not life.jobs()
        assert not [e for e in sandbox.exchanges if e.path.startswith("/interactions/")]
        await life.finish()
        assert len(life.asked) == 2


@pytest.mark.slow
async def test_a_private_answer_comes_again_when_its_token_dies_unrecorded(tmp_path):
    """What is not guaranteed: nobody can look up what only its author sees, so it comes again."""
    private = replace(WAYS["token"], options={"private": True})
    async with Sandbox() as sandbox, bot_on(sandbox, tmp_path) as bot:
        life = Life(bot, private)
        assert await life.run(Plan(die_at=1, die_in="delivered"), None)
        life.asked[0].interaction.created -= TOKEN_S
        await bot.start(life.planned(None))
        assert await life.unless_dead(life.settled)
        shown = [message.visible_to or message.channel.recipients[0] for message in life.outcomes()]
        assert {user.name for user in shown} == {"bob"}
        assert life.jobs()[0]["rung"] == "dm"
