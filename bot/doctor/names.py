"""Names in `.env` that mean nothing: mostly a setting that is misspelt."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from bot.config.libraries import OF_LIBRARIES
from bot.config.settings import Settings
from bot.doctor.finding import Finding, Level

# What compose and the bot's own processes read from it besides.
_OTHERS: Final = re.compile(r"COMPOSE_\w+|RAY_\w+|PYTHON\w+|TZ|LANG|LC_\w+", re.IGNORECASE)


def setting_names(_settings: Settings) -> Iterator[Finding]:
    """Look for names in `.env` that are not settings."""
    known = [name.upper() for name in Settings.model_fields]
    try:
        found = dotenv_values(Path(".env"), interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        found = {}
    strange = [
        name
        for name in found
        if name.upper() not in known
        and not OF_LIBRARIES.fullmatch(name)
        and not _OTHERS.fullmatch(name)
    ]
    if not strange:
        yield Finding("setting names", Level.OK, "every name in .env is a setting")
    for name in strange:
        near = get_close_matches(name.upper(), known, 1)
        step = f"did you mean {near[0]}?" if near else "delete the line"
        text = f"{name} in .env is no setting and does nothing"
        yield Finding("setting names", Level.WARNING, text, f"{step} (.env.example has them all)")
