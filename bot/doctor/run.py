"""The registry of checks, and the one function that runs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bot.doctor.database import integrity, schema, sqlite_version
from bot.doctor.disk import data_folder, free_disk, temporary_files
from bot.doctor.finding import Check, Finding, Level
from bot.doctor.pictures import pictures
from bot.errors import ConfigError
from bot.settings import Settings, load_settings

CHECKS: Final[dict[str, Check]] = {
    "data folder": data_folder,
    "free disk": free_disk,
    "SQLite": sqlite_version,
    "database": integrity,
    "schema": schema,
    "pictures": pictures,
    "temporary files": temporary_files,
}


def examine() -> list[Finding]:
    """Run every check on the settings of `.env`; the bot may run meanwhile."""
    try:
        settings = load_settings()
    except ConfigError as error:
        return [Finding("settings", Level.ERROR, str(error), "mend it; the rest was not checked")]
    findings = [Finding("settings", Level.OK, "valid")]
    for name, check in CHECKS.items():
        findings += _guarded(name, check, settings)
    return findings


def _guarded(name: str, check: Check, settings: Settings) -> Iterator[Finding]:
    try:
        yield from check(settings)
    except Exception as error:  # noqa: BLE001 - one broken check must not hide the others
        text = f"could not be checked: {type(error).__name__}: {error}"
        yield Finding(name, Level.ERROR, text, "mend what stands above first")
