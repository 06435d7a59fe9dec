"""What stops the bot from starting, in one sentence each, and what ends it later."""

from __future__ import annotations

import pytest

from bot.errors import BotError, StartupError
from tests.wire.kit import soon, staged


async def test_a_refused_token(sandbox, tmp_path):
    with pytest.raises(StartupError, match="refused DISCORD_TOKEN"):
        async with staged(sandbox, tmp_path, discord_token="wrong"):
            pass


@pytest.mark.parametrize("status", [403, 418])
async def test_a_refused_login(sandbox, tmp_path, status):
    sandbox.faults.respond("GET", "/users/@me", status)
    with pytest.raises(BotError, match=str(status)) as caught:
        async with staged(sandbox, tmp_path):
            pass
    assert not isinstance(caught.value, StartupError)


async def test_no_connection(sandbox, tmp_path):
    sandbox.faults.reset("GET", "/users/@me", times=None)
    with pytest.raises(BotError, match="cannot be reached"):
        async with staged(sandbox, tmp_path):
            pass


async def test_nothing_at_the_address(sandbox, tmp_path):
    sandbox.faults.reset("GET", "/gateway/bot", times=None)
    with pytest.raises(StartupError, match="DISCORD_API_URL"):
        async with staged(sandbox, tmp_path):
            pass


async def test_a_token_that_is_revoked_while_running(sandbox, tmp_path):
    with pytest.raises(StartupError, match="refused DISCORD_TOKEN at the gateway"):
        async with staged(sandbox, tmp_path) as stage:
            sandbox.gateway.close(4004)
            await soon(stage.ended())
