"""Checks of the packages that a setting asks for."""

from __future__ import annotations

from collections.abc import Iterator

from bot.doctor.finding import Finding, Level
from bot.doctor.packages import packages
from bot.settings import Settings


def optional_packages(settings: Settings) -> Iterator[Finding]:
    """Look for what IMAGE_CHECK=true and ENGINES=ray need besides."""
    asked = {
        "requirements-moderation.txt": settings.image_check,
        "requirements-ray.txt": settings.engines == "ray",
    }
    if not any(asked.values()):
        yield Finding("optional packages", Level.OK, "none is asked for")
    for name in (name for name, wanted in asked.items() if wanted):
        for found in packages(name):
            yield Finding("optional packages", found.level, found.text, found.step)
