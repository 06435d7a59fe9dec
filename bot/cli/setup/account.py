"""The bot's account: its token, checked by its form and by Discord, and its invitation."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from bot.cli.setup.ask import Asker
from bot.cli.setup.options import TOKEN_FILE
from bot.client.login import SANDBOX_TOKEN
from bot.config.checks import no_bot_token, no_real_token_elsewhere, user_ids
from bot.config.settings import Settings
from bot.doctor.account import account
from bot.doctor.finding import Level
from bot.errors import StartupError
from bot.words import _

_PORTAL: Final = "https://discord.com/developers/applications"
_MOST_BYTES: Final = 4096
# Snowflakes: 17 digits since 2015, 20 at most (64 bits); docs.discord.com/developers/reference.
_ID_DIGITS: Final = range(17, 21)


@dataclass(frozen=True, slots=True)
class Account:
    """A token that may be used; `invitation` is None where Discord was not reached."""

    token: str
    invitation: str | None


def find_account(settings: Settings, asker: Asker, file: str | None) -> Account:
    """Return the account of the token that is set, given in `file`, or asked for.

    Raises `StartupError` where a token is refused and nobody can be asked for another.
    """
    asker.heading(_("1. The bot's account at Discord"))
    token = _read_file(file) if file else _set(settings)
    if token is None:
        asker.say(
            _(
                "The bot logs in with a token: {portal}, New Application, then Bot, Reset Token. "
                "It is not shown while you paste it, and kept in .env alone."
            ).format(portal=_PORTAL)
        )
    while True:
        if token is None:
            token = asker.secret(_("Token (paste it, then Enter):"), TOKEN_FILE)
        found = _check(settings, asker, token)
        if isinstance(found, Account):
            return found
        sentence = _("This token cannot be used: {reason}.").format(reason=found)
        if not asker.asking or _from_environment():
            raise StartupError(sentence)
        asker.say(sentence)
        token = None


def owner_ids(text: str) -> str:
    """Return ids with commas between them; raise `ValueError` for what cannot be any."""
    try:
        found: frozenset[int] = user_ids(text)
    except ValueError:
        raise ValueError(_("user ids are digits, separated by commas")) from None
    if any(len(str(one)) not in _ID_DIGITS for one in found):
        raise ValueError(
            _("a user id has 17 to 20 digits; with Discord's Developer Mode on, right-click a name")
        )
    return ",".join(map(str, sorted(found)))


def _check(settings: Settings, asker: Asker, token: str) -> Account | str:
    """Return the account, or half a sentence that says why the token is refused."""
    # The sandbox's own token has no form; another one has it everywhere.
    if not (settings.discord_api_url and token == SANDBOX_TOKEN) and (
        problem := no_bot_token(token)
    ):
        return problem
    secret = SecretStr(token)
    try:
        no_real_token_elsewhere(secret, settings.discord_api_url)
    except ValueError as error:
        return str(error)
    found = list(account(settings.model_copy(update={"discord_token": secret})))
    asker.show(one for one in found if one.check not in {"invitation", "servers"})
    if any(one.check == "bot token" and one.level is Level.ERROR for one in found):
        return _("Discord refuses it")
    link = next((one.text for one in found if one.check == "invitation"), None)
    if link is None:
        asker.say(
            _("Discord could not be asked, so only the form of the token was checked; go on.")
        )
    else:
        asker.say(_("Invite the bot to your server: {link}").format(link=link))
    return Account(token, link)


def _set(settings: Settings) -> str | None:
    secret = settings.discord_token
    return (secret.get_secret_value().strip() if secret else "") or None


def _read_file(file: str) -> str:
    try:
        if file == "-":
            return sys.stdin.read(_MOST_BYTES).strip()
        with Path(file).open(encoding="utf-8-sig") as opened:
            return opened.read(_MOST_BYTES).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or _("it is not text")
        raise StartupError(
            _("The token cannot be read from {file}: {reason}.").format(file=file, reason=reason)
        ) from None


def _from_environment() -> bool:
    return bool(os.environ.get("DISCORD_TOKEN"))
