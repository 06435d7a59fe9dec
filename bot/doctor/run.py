"""The run of the checks, none of which can hang or break the report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bot.config.proxy import proxy_secrets
from bot.doctor import packages
from bot.doctor.finding import Finding, Level

if TYPE_CHECKING:
    from bot.config.settings import Settings

_MEND: Final = "mend what stands above first"
_MEND_SETTING: Final = "mend it (.env.example says what it is for)"
_REST: Final = "the rest was not checked"
_OWNER: Final = "give the bot's user the right to read it, or run this as that user"
_LIMIT_S: Final = 60.0
_WITHOUT_PACKAGES: Final[dict[str, Callable[[], Iterable[Finding]]]] = {
    "Python": packages.python,
    "packages": packages.packages,
    "tested versions": packages.tested_versions,
}


def examine(*, quick: bool = False, full: bool = False, only: str = "") -> Iterator[Finding]:
    """Run the checks on the settings of `.env`, and yield what they find; the bot may run.

    `quick` leaves out what takes longer than a moment or asks others, `full` reads every byte of
    the model, `only` names checks, separated by commas.
    """
    wanted = {name.strip().lower() for name in only.split(",") if name.strip()}
    for name, check in _WITHOUT_PACKAGES.items():
        if not wanted or name.lower() in wanted:
            yield from _bounded(name, check, _LIMIT_S)
    try:
        from bot.config.settings import load_settings  # noqa: PLC0415
        from bot.config.wrong import WrongSettings  # noqa: PLC0415
        from bot.doctor import checks  # noqa: PLC0415 - needs the packages
        from bot.errors import ConfigError  # noqa: PLC0415
    except ImportError as error:
        text = f"the rest was not checked: {error}"
        yield Finding("settings", Level.ERROR, text, "install the packages first")
        return
    try:
        settings = load_settings()
    except WrongSettings as error:
        *others, last = error.sentences
        for sentence in others:
            yield Finding("settings", Level.ERROR, sentence, _MEND_SETTING)
        yield Finding("settings", Level.ERROR, last, f"{_MEND_SETTING}; {_REST}")
        return
    except ConfigError as error:
        yield Finding("settings", Level.ERROR, str(error), f"mend it; {_REST}")
        return
    known = {name: {name.lower(), *entry.also} for name, entry in checks.CHECKS.items()}
    besides = {"settings", *map(str.lower, _WITHOUT_PACKAGES)}
    if unknown := sorted(wanted - besides.union(*known.values())):
        every = ", ".join((*_WITHOUT_PACKAGES, "settings", *known))
        yield Finding("--only", Level.ERROR, f"there is no check {unknown[0]}", f"one of: {every}")
        return
    yield Finding("settings", Level.OK, "valid")
    deepest = checks.Depth.QUICK if quick else checks.Depth.FULL if full else checks.Depth.USUAL
    for name, entry in checks.CHECKS.items():
        if wanted & known[name] or (not wanted and entry.depth <= deepest):
            yield from _of(name, entry.check, entry.limit_s, settings)


def hanging() -> bool:
    """Tell whether a check was left behind, which the end of the process would wait for."""
    return any(thread.name.startswith("check ") for thread in threading.enumerate())


def _of(
    name: str, check: Callable[[Settings], Iterable[Finding]], limit_s: float, settings: Settings
) -> Iterator[Finding]:
    token = settings.discord_token.get_secret_value() if settings.discord_token else ""
    secrets = [secret for secret in (token, *proxy_secrets()) if secret]
    for found in _bounded(name, lambda: check(settings), limit_s):
        text = found.text
        for secret in secrets:
            text = text.replace(secret, "[secret]")
        yield replace(found, text=text)


def _bounded(name: str, check: Callable[[], Iterable[Finding]], limit_s: float) -> list[Finding]:
    """Run one check on a thread of its own, and wait for `limit_s` at most."""
    found: list[Finding] = []

    def work() -> None:
        try:
            found.extend(check())
        except PermissionError as error:
            text = f"{error.filename or 'something'} cannot be read ({error.strerror})"
            found.append(Finding(name, Level.ERROR, text, _OWNER))
        except Exception as error:  # noqa: BLE001 - one broken check must not hide the others
            text = f"could not be checked: {type(error).__name__}: {error}"
            found.append(Finding(name, Level.ERROR, text, _MEND))

    thread = threading.Thread(target=work, name=f"check {name}", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        text = f"no answer within {limit_s:g} s"
        step = "a disk, network drive or driver hangs: see the system's log (dmesg)"
        return [*found, Finding(name, Level.ERROR, text, step)]
    return found
