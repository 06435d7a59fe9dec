"""Bad days of the gateway: what is running goes on, and nothing is done twice."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import discord.gateway
import pytest

from bot.errors import StartupError
from bot.sandbox import gateway
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import PATIENCE_S, job_id_of, soon, staged

TROUBLES = {
    "close 4000": lambda gateway: gateway.close(4000),
    "cut": lambda gateway: gateway.drop(),
    "silence": lambda gateway: gateway.silence(),
    "reconnect": lambda gateway: gateway.reconnect(),
    "invalid, resumable": lambda gateway: gateway.invalidate(resumable=True),
    "invalid": lambda gateway: gateway.invalidate(),
}


@pytest.fixture
def _heartbeats(monkeypatch):
    """Let heartbeats come so often that their absence is noticed soon."""
    monkeypatch.setattr(gateway, "HEARTBEAT_MS", 40)


async def at_once(*_, **__):
    """Stand in for discord.py's pause of five seconds before each further session."""


async def reconnected(stage, cause):
    """Cause trouble; return when the bot is back, by a resume or a new session."""
    line = stage.sandbox.gateway
    before = line.identifies + line.resumes
    cause(line)
    await stage.sandbox.wait(
        lambda: line.identifies + line.resumes > before and line.connected, PATIENCE_S
    )


@pytest.mark.slow
@pytest.mark.usefixtures("hurry", "_heartbeats")
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_job_outlives_its_gateway(sandbox, tmp_path, trouble):
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine) as stage:
        invocation = await stage.imagine("alice", "a house")
        message = await invocation.answer()
        await soon(engine.holding.wait())
        if trouble == "silence":
            # The connection after this one notices soon that nothing comes.
            stage.app.client._connection.heartbeat_timeout = 0.4
            await reconnected(stage, TROUBLES["close 4000"])
        stage.app.client.before_identify_hook = at_once
        await reconnected(stage, TROUBLES[trouble])
        sandbox.gateway.replay(invocation.interaction)
        engine.release.set()
        assert (await stage.delivered(job_id_of(message))).rung == "token"
        assert stage.visible() == [message]
        other = await stage.outcome(await stage.imagine("bob", "the line is back"))
        assert other.files
        assert await stage.jobs_made() == 2


class LateThread:
    """asyncio for discord.py's keep-alive thread, which runs on a little after each sending.

    So a busy machine has it. It waits for the heartbeat's answer, and not for long.
    """

    def __init__(self) -> None:
        self.answered = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def run_coroutine_threadsafe(self, coro: Any, loop: asyncio.AbstractEventLoop) -> Any:
        self.answered.clear()
        sending = asyncio.run_coroutine_threadsafe(coro, loop)
        result = sending.result

        def late(timeout: float | None = None) -> Any:
            found = result(timeout)
            self.answered.wait(0.02)
            return found

        sending.result = late
        return sending


async def test_a_heartbeat_s_answer_comes_after_its_sending_was_noted(
    sandbox, tmp_path, monkeypatch
):
    """Else the latency is the heartbeats' interval, and discord.py warns of it for nothing."""
    monkeypatch.setattr(gateway, "HEARTBEAT_MS", 400)
    monkeypatch.setattr(gateway, "ACK_S", 5 * gateway.ACK_S)
    thread = LateThread()
    monkeypatch.setattr(discord.gateway, "asyncio", thread)
    begun: list[float] = []
    noted: list[bool] = []
    enough = asyncio.Event()
    handler, line = discord.gateway.KeepAliveHandler, discord.gateway.DiscordWebSocket
    ack, send = handler.ack, line.send_heartbeat

    acks = 0

    def observed(self: discord.gateway.KeepAliveHandler) -> None:
        nonlocal acks
        ack(self)
        thread.answered.set()
        # The first answers the heartbeat that is sent at once, and not by `sent`.
        if acks:
            noted.append(self._last_send > begun[acks - 1])
        acks += 1
        if len(noted) == 2:
            enough.set()

    async def sent(self: discord.gateway.DiscordWebSocket, data: Any) -> None:
        begun.append(time.perf_counter())
        await send(self, data)

    monkeypatch.setattr(handler, "ack", observed)
    monkeypatch.setattr(line, "send_heartbeat", sent)
    async with staged(sandbox, tmp_path):
        await soon(enough.wait())
    assert all(noted)


async def test_events_during_a_break_are_caught_up_with(stage):
    """An interaction sent while the line is down arrives with the resume, once."""
    line = stage.sandbox.gateway
    resumes = line.resumes
    line.close(4000)
    invocation = await stage.imagine("alice", "a house")
    message = await stage.outcome(invocation)
    assert line.resumes == resumes + 1
    assert await stage.jobs_made() == 1
    assert stage.visible() == [message]


async def test_a_replay_beside_the_first_response_lets_nothing_overtake_it(stage):
    held = stage.sandbox.faults.hold("POST", "/interactions/*/callback")
    # Before it is asked: the picture may be finished by the time that the response is held.
    with stage.queue.feed.subscribe() as updates:
        invocation = await stage.imagine("alice", "a house")
        await soon(held.reached.wait())
        for _ in range(2):
            stage.sandbox.gateway.replay(invocation.interaction)
        async with asyncio.timeout(PATIENCE_S):
            async for update in updates:
                if update.kind == "final":
                    break
    acknowledgements = stage.app.client.services.courier._acknowledgements
    waiting = asyncio.create_task(acknowledgements.wait(f"i{invocation.interaction.id}"))
    # A round trip of the same kind: the replays are handled by its end.
    await (await stage.sandbox.user("bob").slash("general", "queue")).answer()
    assert not waiting.done()
    held.release()
    await soon(waiting)
    message = await stage.outcome(invocation)
    assert (await stage.delivered(job_id_of(message))).rung == "token"
    assert [m for m in stage.sandbox.user("alice").messages("general") if m.author.bot] == [message]
    assert await stage.jobs_made() == 1


@pytest.mark.parametrize(
    ("code", "sentence"), [(4004, "DISCORD_TOKEN"), (4014, "intent"), (4010, "4010")]
)
async def test_a_line_closed_for_good_ends_the_bot_with_a_sentence(
    sandbox, tmp_path, code, sentence
):
    with pytest.raises(StartupError, match=sentence):
        async with staged(sandbox, tmp_path) as stage:
            sandbox.gateway.close(code)
            await soon(stage.ended())
