"""The check of `.env` for lines that do nothing."""

from __future__ import annotations

from collections.abc import Iterator

from bot.config.names import idle_lines
from bot.config.settings import Settings
from bot.doctor.finding import Finding, Level


def setting_names(_settings: Settings) -> Iterator[Finding]:
    """Look for names in `.env` that are not settings, and for lines without one."""
    idle = list(idle_lines())
    if not idle:
        yield Finding("setting names", Level.OK, "every name in .env is a setting")
    for line in idle:
        step = f"{line.step} (.env.example has them all)"
        yield Finding("setting names", Level.WARNING, line.text, step)
