"""The login: discord.py is pointed at the API address of the settings, and waits out outages."""

from __future__ import annotations

import asyncio
import logging
import random
from http import HTTPStatus
from pathlib import Path

import aiohttp
import discord
import yarl
from discord.gateway import DiscordWebSocket
from discord.http import Route

from bot.client.unreachable import why_unreachable
from bot.config.checks import no_bot_token
from bot.config.env_lines import origin
from bot.config.proxy import Proxy, proxy_for
from bot.config.settings import Settings
from bot.delivery.breaker import LONGEST_ASKED_S
from bot.delivery.errors import FORESEEN, RetryLaterError, explain
from bot.errors import BotError, StartupError

log = logging.getLogger(__name__)

INVITE_PERMISSIONS = discord.Permissions(
    view_channel=True,
    send_messages=True,
    send_messages_in_threads=True,
    embed_links=True,
    attach_files=True,
    read_message_history=True,
)
"""What the bot needs in a server."""

# Any token opens the sandbox's own bot account; this one is what it expects.
SANDBOX_TOKEN = "sandbox-token"  # noqa: S105
_PATIENCE_S = 10.0
_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 60.0
# Where the rate is limited, another start would only be one more invalid request.
_FINAL = frozenset(range(400, 500)) - {HTTPStatus.TOO_MANY_REQUESTS}
_REFUSED = (
    "Discord refused DISCORD_TOKEN: make a new one in the developer portal (Bot, Reset Token) and "
    "put it into .env."
)


def invitation(application_id: int) -> str:
    """Return the link that brings the bot into a server, with the rights that it needs."""
    return discord.utils.oauth_url(
        application_id, permissions=INVITE_PERMISSIONS, scopes=("bot", "applications.commands")
    )


async def use_api(url: str, token: str) -> None:
    """Make discord.py use the API at `url` and the gateway that this API names.

    A plain client never asks `GET /gateway/bot`, so that is done here. Raises `StartupError` when
    nothing answers there.
    """
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
    headers = {"Authorization": f"Bot {token}"}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url}/gateway/bot", headers=headers) as reply,
        ):
            if reply.status == HTTPStatus.UNAUTHORIZED:
                raise StartupError(_REFUSED)
            reply.raise_for_status()
            gateway = (await reply.json(content_type=None))["url"]
    except (aiohttp.ClientError, TimeoutError, KeyError, ValueError) as error:
        raise StartupError(
            f"Nothing that speaks Discord's API answers at DISCORD_API_URL"
            f" ({why_unreachable(error)})."
        ) from error
    Route.BASE = url
    DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(gateway)


def discord_proxy(settings: Settings) -> Proxy | None:
    """Return the proxy of all that discord.py asks: requests, gateway and files.

    Whether NO_PROXY leaves it out is decided by the API's host: discord.py knows one proxy.
    Raises `ConfigError` for a proxy that cannot be used.
    """
    return proxy_for(settings.discord_api_url or Route.BASE)


def require_token(settings: Settings) -> None:
    """Raise `StartupError` with a hint where Discord's own API needs a token and there is none.

    What cannot be one is refused too: offline, Discord's own refusal would never come.
    """
    if settings.discord_api_url is not None:
        return
    token = settings.discord_token.get_secret_value().strip() if settings.discord_token else ""
    if token and (problem := no_bot_token(token)):
        where = origin("discord_token", Path(".env"), secret=True)
        raise StartupError(
            f"DISCORD_TOKEN cannot be a bot's token: {problem}{f' ({where})' if where else ''}. "
            "Make one in the developer portal (Bot, Reset Token)."
        )
    if not token:
        raise StartupError(
            "DISCORD_TOKEN is missing: `python -m bot setup` asks for it and for the rest, and "
            "`python -m bot demo` needs none."
        )


async def log_in(client: discord.Client, settings: Settings) -> None:
    """Log the client in; try again, ever more slowly, while Discord cannot be reached.

    Raises `StartupError` with one sentence when Discord refuses the token, and `BotError` when it
    refuses the login otherwise, which another start may mend.
    """
    token = settings.discord_token.get_secret_value() if settings.discord_token else ""
    if settings.discord_api_url:
        token = token or SANDBOX_TOKEN
        await use_api(settings.discord_api_url, token)
    if (proxy := discord_proxy(settings)) is not None:
        log.info("Discord is asked through the proxy %s", proxy)
    pause = _FIRST_RETRY_S
    while (failure := await _try_login(client, token, proxy)) is not None:
        # Jitter keeps many bots from coming back in the same second.
        delay = pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        delay = max(delay, min(failure.after_s or 0.0, LONGEST_ASKED_S))
        log.warning("Discord cannot be reached (%s); next try in %.0f s", failure, delay)
        await asyncio.sleep(delay)
        pause = min(2 * pause, _LONGEST_RETRY_S)


async def _try_login(
    client: discord.Client, token: str, proxy: Proxy | None
) -> RetryLaterError | None:
    """Log in and return None, or return why Discord could not be reached."""
    try:
        await client.login(token)
    except discord.LoginFailure:
        raise StartupError(_REFUSED) from None
    except FORESEEN as error:
        if isinstance(error, discord.HTTPException) and error.status in _FINAL:
            raise BotError(f"Discord answered the login with {error.status}.") from error
        failure = explain(error)
        if not isinstance(failure, RetryLaterError):
            raise
        if isinstance(error, aiohttp.ClientError | OSError | TimeoutError):
            failure = RetryLaterError(why_unreachable(error, proxy), failure.after_s)
    else:
        return None
    # The next login opens a session of its own.
    await client.http.close()
    client.http.connector = discord.utils.MISSING
    return failure
