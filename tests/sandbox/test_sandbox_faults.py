"""Bad days: limits, proxies, cut connections, lost and refused gateway sessions."""

from __future__ import annotations

import asyncio

import aiohttp
import discord
import pytest

from bot.sandbox.server import Sandbox
from tests.sandbox.sandbox_bot import Bot, add_commands, running

SEND = "/channels/{channel_id}/messages"


def general(sandbox: Sandbox, bot: Bot) -> discord.PartialMessageable:
    return bot.get_partial_messageable(sandbox.world.channel("general").id)


async def test_rate_limit_is_waited_for(sandbox: Sandbox, bot: Bot) -> None:
    fault = sandbox.faults.rate_limit("POST", SEND, times=2)
    assert (await general(sandbox, bot).send("patience")).content == "patience"
    assert fault.hits == 2
    statuses = [e.status for e in sandbox.exchanges if e.route == SEND]
    assert statuses == [429, 429, 200]


async def test_ban_by_the_proxy_is_raised(sandbox: Sandbox, bot: Bot) -> None:
    sandbox.faults.rate_limit("POST", SEND, via=False)
    with pytest.raises(discord.HTTPException) as caught:
        await general(sandbox, bot).send("now")
    assert caught.value.status == 429


async def test_server_error_before_and_after_the_work(sandbox: Sandbox, bot: Bot) -> None:
    sandbox.faults.respond("POST", SEND, 503)
    with pytest.raises(discord.DiscordServerError):
        await general(sandbox, bot).send("lost")
    assert sandbox.user("bob").messages("general") == []
    sandbox.faults.respond("POST", SEND, 503, after=True)
    with pytest.raises(discord.DiscordServerError):
        await general(sandbox, bot).send("arrived")
    assert [m.content for m in sandbox.user("bob").messages("general")] == ["arrived"]


async def test_chosen_error_and_predicate(sandbox: Sandbox, bot: Bot) -> None:
    fault = sandbox.faults.respond(
        "POST", "/channels/*/messages", 403, code=50013,
        when=lambda exchange: exchange.request["content"] == "b", times=None,
    )  # fmt: skip
    await general(sandbox, bot).send("a")
    for _ in range(2):
        with pytest.raises(discord.Forbidden):
            await general(sandbox, bot).send("b")
    assert fault.hits == 2


@pytest.mark.parametrize("after", [False, True])
async def test_reset(sandbox: Sandbox, bot: Bot, after: bool) -> None:
    sandbox.faults.reset("POST", SEND, after=after)
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await general(sandbox, bot).send("hello")
    assert len(sandbox.user("bob").messages("general")) == int(after)
    assert sandbox.exchanges[-1].status == 0
    assert (await general(sandbox, bot).send("again")).content == "again"


async def test_held_request_waits_for_release(sandbox: Sandbox, bot: Bot) -> None:
    fault = sandbox.faults.hold("POST", SEND)
    sending = asyncio.create_task(general(sandbox, bot).send("slow"))
    await fault.reached.wait()
    assert sandbox.user("bob").messages("general") == []
    fault.release()
    assert (await sending).content == "slow"


async def identified_again(sandbox: Sandbox, before: int) -> None:
    await sandbox.wait(lambda: sandbox.gateway.identifies > before and sandbox.gateway.connected)


async def test_close_and_resume_replays_what_was_missed(sandbox: Sandbox, bot: Bot) -> None:
    sandbox.gateway.close(4000)
    await sandbox.wait(lambda: not sandbox.gateway.connected)
    call = await sandbox.user("alice").slash("general", "whisper", text="while away")
    assert (await call.answer()).content == "while away"
    await bot.resumed.wait()
    assert (sandbox.gateway.identifies, sandbox.gateway.resumes) == (1, 1)


@pytest.mark.parametrize("fault", ["drop", "reconnect"])
async def test_lost_connection_is_resumed(sandbox: Sandbox, bot: Bot, fault: str) -> None:
    getattr(sandbox.gateway, fault)()
    await bot.resumed.wait()
    assert sandbox.gateway.identifies == 1
    call = await sandbox.user("alice").slash("general", "whisper")
    assert (await call.answer()).content == "psst"


@pytest.mark.slow  # discord.py waits up to five seconds before it identifies again
async def test_refused_resume_leads_to_a_new_session(sandbox: Sandbox, bot: Bot) -> None:
    sandbox.gateway.refuse_resume = True
    sandbox.gateway.close(4000)
    await identified_again(sandbox, 1)
    call = await sandbox.user("alice").slash("general", "whisper")
    assert (await call.answer()).content == "psst"


@pytest.mark.slow
async def test_invalid_session_leads_to_a_new_one(sandbox: Sandbox, bot: Bot) -> None:
    sandbox.gateway.invalidate()
    await identified_again(sandbox, 1)


async def test_silence_is_heard_as_nothing(sandbox: Sandbox, bot: Bot) -> None:
    sandbox.gateway.silence()
    call = await sandbox.user("alice").slash("general", "whisper")
    sandbox.gateway.drop()
    await bot.resumed.wait()
    assert (await call.answer()).content == "psst"


async def test_replayed_interaction_arrives_twice(sandbox: Sandbox, bot: Bot) -> None:
    call = await sandbox.user("alice").slash("general", "whisper")
    await call.answer()
    sandbox.gateway.replay(call.interaction)
    error = await bot.errors.get()
    assert isinstance(error, discord.HTTPException)
    assert error.code == 40060
    seen = [(await bot.interactions.get()).id for _ in range(2)]
    assert seen == [call.interaction.id] * 2


async def test_privileged_intents_are_refused_unless_granted(sandbox: Sandbox, route: None) -> None:
    first = Bot(discord.Intents.all())
    async with first:
        with pytest.raises(discord.PrivilegedIntentsRequired):
            await first.start(sandbox.token)
    sandbox.world.privileged_intents = discord.Intents.all().value
    async with running(sandbox, Bot(discord.Intents.all()), sync=False) as second:
        await sandbox.user("bob").send("general", "a secret")
        assert (await second.heard.get()).content == "a secret"


async def test_uncompressed_gateway(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(sandbox.gateway_url) as ws:
        assert (await ws.receive_json())["op"] == 10
        await ws.send_json({"op": 2, "d": {"token": "wrong", "intents": 0}})
        await ws.receive()
        assert ws.close_code == 4004


async def test_restarted_bot_still_knows_its_buttons(sandbox: Sandbox, route: None) -> None:
    first = Bot()
    add_commands(first)
    async with running(sandbox, first):
        call = await sandbox.user("alice").slash("general", "draw", prompt="x")
        message = await call.until(lambda m: m.components)
    second = Bot()
    add_commands(second)
    async with running(sandbox, second, sync=False):
        pressed = await sandbox.user("alice").press(message, "again")
        await pressed.response()
        assert message.content == "pressed"
