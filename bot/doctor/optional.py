"""Checks of the packages that a setting asks for."""

from __future__ import annotations

from collections.abc import Iterator

from bot.doctor.finding import Finding, Level
from bot.doctor.packages import packages
from bot.settings import Settings


def optional_packages(settings: Settings) -> Iterator[Finding]:
    """Look for what IMAGE_CHECK=true needs besides."""
    if not settings.image_check:
        yield Finding("optional packages", Level.OK, "none is asked for")
        return
    for found in packages("requirements-moderation.txt"):
        yield Finding("optional packages", found.level, found.text, found.step)
