"""Checks of the bot's account at Discord, asked over its API: token, servers, rights, clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import discord
from discord.http import Route

from bot.client.login import INVITE_PERMISSIONS, SANDBOX_TOKEN, discord_proxy, invitation
from bot.client.unreachable import why_unreachable
from bot.config.checks import no_bot_token
from bot.config.proxy import Proxy
from bot.config.settings import Settings
from bot.doctor.finding import Finding, Level
from bot.errors import ConfigError

_PATIENCE_S: Final = 10.0
# The Date header has whole seconds, and the answer's way takes its own time.
_SKEW_WARNING_S: Final = 5.0
_SKEW_ERROR_S: Final = 60.0
_FEW_STARTS: Final = 10
_SERVERS_NAMED: Final = 10
_INTENTS: Final = {"presences": 3 << 12, "members": 3 << 14, "message content": 3 << 18}
_MAKE_TOKEN: Final = (
    "make a new one in the developer portal (Bot, Reset Token) and put it into .env"  # noqa: S105
)


@dataclass(slots=True)
class _Answers:
    """Discord's answers by path, and how far its clock is from this machine's."""

    bodies: dict[str, Any]
    status: dict[str, int]
    skew_s: float | None = None
    seconds: float = 0.0


def token_there(settings: Settings) -> Iterator[Finding]:
    """Say whether a token is set that can be one; `account` asks what Discord thinks of it."""
    token = _token(settings)
    if not token:
        yield Finding(
            "bot token",
            Level.ERROR,
            "DISCORD_TOKEN is missing",
            "python -m bot setup asks for it (or: copy .env.example to .env; "
            f"{_MAKE_TOKEN}); python -m bot demo needs none",
        )
    elif problem := _problem(settings, token):
        text = f"DISCORD_TOKEN cannot be a bot's token: {problem}"
        yield Finding("bot token", Level.ERROR, text, _MAKE_TOKEN)
    else:
        yield Finding("bot token", Level.OK, "it is set, and has a token's form")


def account(settings: Settings) -> Iterator[Finding]:
    """Ask Discord who the bot is and what it may do."""
    token = _token(settings)
    if not token or _problem(settings, token):
        text = "not asked: there is no bot token to ask with"
        yield Finding("Discord", Level.WARNING, text, "set DISCORD_TOKEN first")
        return
    base = settings.discord_api_url or Route.BASE
    try:
        proxy = discord_proxy(settings)
    except ConfigError as error:
        yield Finding("Discord", Level.ERROR, str(error), "the bot does not start with it")
        return
    try:
        answers = asyncio.run(_ask(base, token, proxy))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        yield Finding(
            "Discord",
            Level.ERROR,
            f"it cannot be reached ({why_unreachable(error, proxy)})",
            f"check the proxy that {proxy.variable} names"
            if proxy
            else "check the network, the firewall and https://discordstatus.com; where it is "
            "blocked, HTTPS_PROXY names a proxy",
        )
        return
    through = f", through the proxy {proxy}" if proxy else ""
    answered = f"it answers after {1000 * answers.seconds:.0f} ms{through}"
    yield Finding("Discord", Level.OK, answered)
    yield from _clock(answers)
    status = answers.status["/users/@me"]
    if status == HTTPStatus.UNAUTHORIZED:
        yield Finding("bot token", Level.ERROR, "Discord refuses it", _MAKE_TOKEN)
        return
    if status != HTTPStatus.OK:
        yield Finding(
            "bot token", Level.ERROR, f"Discord answered {status}", "try again in a few minutes"
        )
        return
    me = answers.bodies["/users/@me"]
    yield Finding("bot token", Level.OK, f"accepted, for {me.get('username')} ({me.get('id')})")
    yield from _application(answers)
    yield from _starts(answers)


def _token(settings: Settings) -> str:
    token = settings.discord_token.get_secret_value().strip() if settings.discord_token else ""
    return SANDBOX_TOKEN if not token and settings.discord_api_url else token


def _problem(settings: Settings, token: str) -> str | None:
    """Return why this cannot be a token; a stand-in for Discord may take any."""
    return None if settings.discord_api_url else no_bot_token(token)


def _clock(answers: _Answers) -> Iterator[Finding]:
    if (skew := answers.skew_s) is None:
        yield Finding("clock", Level.OK, "Discord's answer has no date to compare with")
        return
    if abs(skew) <= _SKEW_WARNING_S:
        yield Finding("clock", Level.OK, "agrees with Discord's to a few seconds")
        return
    yield Finding(
        "clock",
        Level.ERROR if abs(skew) > _SKEW_ERROR_S else Level.WARNING,
        f"this machine's is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} Discord's, so "
        "answers are taken for expired or tried too late",
        "sudo timedatectl set-ntp true; on Windows: w32tm /resync",
    )


def _application(answers: _Answers) -> Iterator[Finding]:
    application = answers.bodies["/applications/@me"]
    if not application.get("id"):
        yield Finding(
            "application",
            Level.WARNING,
            f"Discord answered {answers.status['/applications/@me']} for it",
            "try again in a few minutes",
        )
        return
    link = invitation(int(application["id"]))
    yield Finding("invitation", Level.OK, link)
    flags = int(application.get("flags") or 0)
    on = [name for name, bits in _INTENTS.items() if flags & bits]
    more = f"; switched on all the same: {', '.join(on)}" if on else ""
    yield Finding("intents", Level.OK, f"no privileged one is needed{more}")
    guilds = answers.bodies["/users/@me/guilds"]
    if not isinstance(guilds, list):
        status = answers.status["/users/@me/guilds"]
        yield Finding(
            "servers", Level.WARNING, f"Discord answered {status}", "try again in a few minutes"
        )
        return
    yield from _servers(guilds, link)  # pyright: ignore[reportUnknownArgumentType]


def _servers(guilds: list[dict[str, Any]], link: str) -> Iterator[Finding]:
    if not guilds:
        yield Finding("servers", Level.WARNING, "the bot is in none", f"invite it with {link}")
        return
    lacking = 0
    for guild in guilds:
        held = discord.Permissions(int(guild.get("permissions") or 0))
        wanted = [name for name, needed in INVITE_PERMISSIONS if needed]
        missing = [name for name in wanted if not getattr(held, name)]
        if missing and not held.administrator:
            lacking += 1
            if lacking > _SERVERS_NAMED:
                continue
            yield Finding(
                "servers",
                Level.WARNING,
                f"in {str(guild.get('name'))[:60]!r} the bot's role lacks: "
                f"{', '.join(missing).replace('_', ' ')}",
                f"grant them to its role, or invite it again with {link}",
            )
    if lacking > _SERVERS_NAMED:
        rest = lacking - _SERVERS_NAMED
        yield Finding("servers", Level.WARNING, f"and {rest} more lack rights", "see above")
    if not lacking:
        text = f"{len(guilds)}, its role has every right there (channels may take some away)"
        yield Finding("servers", Level.OK, text)


def _starts(answers: _Answers) -> Iterator[Finding]:
    limit: dict[str, Any] = answers.bodies["/gateway/bot"].get("session_start_limit") or {}
    left = limit.get("remaining")
    if not isinstance(left, int):
        return
    if left > _FEW_STARTS:
        yield Finding("gateway", Level.OK, f"{left} starts left today")
        return
    hours = float(limit.get("reset_after") or 0) / 3_600_000
    yield Finding(
        "gateway",
        Level.WARNING,
        f"only {left} starts left for {hours:.1f} h; past them Discord resets the token",
        "stop whatever restarts the bot again and again, and mend that first",
    )


async def _ask(base: str, token: str, proxy: Proxy | None) -> _Answers:
    answers = _Answers({}, {})
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
    headers = {"Authorization": f"Bot {token}"}
    through = proxy.with_login() if proxy else None
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        for path in ("/users/@me", "/applications/@me", "/users/@me/guilds", "/gateway/bot"):
            began, clock = time.time(), time.perf_counter()
            async with session.get(f"{base}{path}", proxy=through) as reply:
                took = time.perf_counter() - clock
                answers.status[path] = reply.status
                body: Any = {}
                if reply.status == HTTPStatus.OK:
                    body = await reply.json(content_type=None)
                answers.bodies[path] = body
                if path == "/users/@me":
                    answers.seconds = took
                    answers.skew_s = _skew(reply.headers.get("Date"), began + took / 2)
            if answers.status[path] == HTTPStatus.UNAUTHORIZED:
                break  # Discord counts refused tokens against the address.
    return answers


def _skew(date: str | None, here: float) -> float | None:
    """Return how many seconds Discord's clock is ahead of `here` (Unix time)."""
    if date is None:
        return None
    try:
        # On average half a second was cut off.
        return parsedate_to_datetime(date).timestamp() + 0.5 - here
    except ValueError:
        return None
