"""`python -m bot setup`: the questions, `.env`, the files, one picture, and how to start for good.

What was answered is kept in `.env` at once, and what was downloaded stays: the same command goes on
where it ended.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Final

from bot.catalogue.lightning import BEST
from bot.cli.download import download_lightning, download_models
from bot.cli.setup.account import find_account, owner_ids
from bot.cli.setup.ask import Asker, at_terminal
from bot.cli.setup.model import choose_folder, choose_model, hours, wants_lightning
from bot.cli.smoke import smoke
from bot.config.env_example import env_example
from bot.config.env_write import write_env
from bot.config.settings import Settings, load_settings
from bot.errors import StartupError
from bot.logs import set_up_logging
from bot.machine.program import program
from bot.words import _, speaking

_FILE: Final = Path(".env")
_LOCALE: Final = ("LC_ALL", "LC_MESSAGES", "LANG")


def setup(options: argparse.Namespace) -> bool:
    """Ask, write, download and draw; return whether there is a picture, if one is wanted.

    Raises `StartupError` where an answer is missing and nobody can be asked, `BotError` where a
    download or the picture fails.
    """
    with speaking(_locale()):
        asking = not options.yes
        if asking and not at_terminal():
            raise StartupError(
                _("There is no terminal to ask at: give --yes, and the answers as options.")
            )
        asker = Asker(asking=asking)
        asker.say(
            _(
                "What the bot needs, one by one. Enter takes what stands in brackets, Ctrl+C ends; "
                "the same command goes on from there."
            )
        )
        link = _answer(options, asker)
        return options.no_download or _work(options, asker, link)


def _answer(options: argparse.Namespace, asker: Asker) -> str | None:
    """Ask for everything, and keep each answer; return the link that invites the bot."""
    settings = load_settings()
    found = find_account(settings, asker, options.token_file)
    _keep(asker, {"DISCORD_TOKEN": found.token})
    chosen = {
        "IMAGE_MODEL_NAME": choose_model(
            settings, asker, options.model, accepted=options.accept_licence
        )
    }
    if options.source:
        chosen["MODEL_SOURCE"] = options.source
    if options.model_path:
        chosen["IMAGE_MODEL_PATH"] = str(options.model_path)
    settings = _keep(asker, chosen)
    if not all(spec.built_in for spec in settings.models):
        folder = choose_folder(settings, asker, drop=not options.keep)
        if folder != settings.image_model_path:
            settings = _keep(asker, {"IMAGE_MODEL_PATH": str(folder)})
        options.lightning = wants_lightning(settings, asker, options.lightning)
    asker.heading(_("4. The bot's owner"))
    if settings.owner_ids and options.owner is None:
        asker.say(_("OWNER_IDS is set."))
        return found.invitation
    question = _("Other Discord user ids that may use every /admin command, or Enter:")
    asker.say(_("The application's owner may do everything already."))
    owners = (
        owner_ids(options.owner) if options.owner else asker.ask(question, owner_ids, "", "--owner")
    )
    if owners:
        _keep(asker, {"OWNER_IDS": owners})
    return found.invitation


def _work(options: argparse.Namespace, asker: Asker, link: str | None) -> bool:
    """Download, draw, and say how to go on; return whether both went well."""
    settings = load_settings()
    asker.heading(_("5. The model's files"))
    for spec in settings.models:
        if spec.published is not None:
            asker.say(
                _("{size} GB: {time}. Ctrl+C ends it, the same command goes on.").format(
                    size=f"{spec.published.download_bytes / 1e9:.1f}",
                    time=hours(spec.published.download_bytes),
                )
            )
    if not download_models(settings, settings.models, drop=not options.keep):
        return False
    if options.lightning:
        asker.say(download_lightning(settings, settings.model, BEST))
    asker.heading(_("6. The first picture"))
    set_up_logging("WARNING")
    drawn = asyncio.run(smoke(settings, (settings.model,), options.out, asker.say, full=False))
    if not drawn:
        return False
    asker.heading(_("Done"))
    if link is not None:
        asker.say(_("Invite the bot to your server: {link}").format(link=link))
    start = "run.bat" if sys.platform == "win32" and Path("run.bat").is_file() else None
    asker.say(_("Start it: {command}").format(command=start or f"{program()} run"))
    page = "docs/windows.md" if sys.platform == "win32" else "docs/running.md"
    asker.say(
        _("To keep it running, also after a restart of the machine: {page}").format(page=page)
    )
    return True


def _keep(asker: Asker, values: dict[str, str]) -> Settings:
    """Write to `.env` what is not so already, and return the settings as they are then."""
    before = load_settings()
    changed = {name: value for name, value in values.items() if _as_set(before, name) != value}
    if overruled := [name for name in changed if os.environ.get(name)]:
        asker.say(
            _("{names}: set in the environment, which counts before .env.").format(
                names=", ".join(overruled)
            )
        )
    if changed:
        write_env(_FILE, changed, template=env_example())
        asker.say(_("Kept in .env: {names}.").format(names=", ".join(changed)))
    return load_settings()


def _as_set(settings: Settings, name: str) -> str | None:
    field = name.lower()
    if field not in settings.model_fields_set:
        return None
    value = getattr(settings, field)
    if name == "DISCORD_TOKEN":
        return value.get_secret_value().strip() if value else None
    if name == "OWNER_IDS":
        return ",".join(map(str, sorted(value)))
    return str(value)


def _locale() -> str:
    """Return the language of the terminal, as POSIX names it; English where none is named."""
    return next((value for name in _LOCALE if (value := os.environ.get(name))), "en")
