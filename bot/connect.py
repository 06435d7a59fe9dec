"""Points discord.py at the API address of the settings."""

from __future__ import annotations

from http import HTTPStatus

import aiohttp
import discord
import yarl
from discord.gateway import DiscordWebSocket
from discord.http import Route

from bot.errors import BotError, StartupError
from bot.settings import Settings

# Any token opens the sandbox's own bot account; this one is what it expects.
SANDBOX_TOKEN = "sandbox-token"  # noqa: S105
_PATIENCE_S = 10.0
_REFUSED = (
    "Discord refused DISCORD_TOKEN: make a new one in the developer portal (Bot, Reset Token) and "
    "put it into .env."
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
            f" ({type(error).__name__})."
        ) from error
    Route.BASE = url
    DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(gateway)


def require_token(settings: Settings) -> None:
    """Raise `StartupError` with a hint where a token is needed and missing."""
    if settings.discord_token is None and settings.discord_api_url is None:
        raise StartupError(
            "DISCORD_TOKEN is missing: copy .env.example to .env and put the bot's token there, "
            "or try the bot without one with `make demo`."
        )


async def log_in(client: discord.Client, settings: Settings) -> None:
    """Log the client in.

    Raises `StartupError` with one sentence when Discord refuses the token, and `BotError` when it
    cannot be reached, which another start may mend.
    """
    token = settings.discord_token.get_secret_value() if settings.discord_token else ""
    if settings.discord_api_url:
        token = token or SANDBOX_TOKEN
        await use_api(settings.discord_api_url, token)
    try:
        await client.login(token)
    except discord.LoginFailure:
        raise StartupError(_REFUSED) from None
    except discord.HTTPException as error:
        raise BotError(f"Discord answered the login with {error.status}.") from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise BotError(
            f"Discord cannot be reached ({type(error).__name__}); is this machine online?"
        ) from error
