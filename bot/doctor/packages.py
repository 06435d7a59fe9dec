"""Checks of Python and its packages; the standard library is all that they need."""

from __future__ import annotations

import platform
import re
import shlex
import struct
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bot.doctor.finding import Finding, Level

if TYPE_CHECKING:  # pydantic may be what is missing.
    from bot.config.settings import Settings

_ROOT: Final = Path(__file__).parents[2]
_DISTRIBUTION: Final = "imagine-bot"
# What `python -m venv` puts into every environment, in whatever version that Python has.
_OF_PYTHON: Final = {"pip", "setuptools"}
EXTRAS: Final = ("moderation", "ray")
"""The package's extras that settings ask for; a checkout has a requirements file of each."""
_BITS: Final = 64
_PINNED: Final = re.compile(r"^([\w.-]+)==([^\s;\\]+)(?:\s*;\s*([^\\\n]+))?", re.MULTILINE)


def python() -> Iterator[Finding]:
    """Name the Python that runs; `bot/__init__.py` refuses one that is too old."""
    version = f"{platform.python_version()} at {sys.executable}"
    if struct.calcsize("P") * 8 < _BITS:
        yield Finding(
            "Python",
            Level.ERROR,
            f"{version} is a 32-bit build, for which there is no PyTorch",
            "install the 64-bit one from https://www.python.org/downloads/",
        )
    else:
        yield Finding("Python", Level.OK, version)


def packages(extra: str = "") -> Iterator[Finding]:
    """Compare the installed packages with the ranges of the bot, or of one of its extras.

    They stand in a requirements file in a checkout, and in the metadata of an installed package.
    """
    file = f"requirements-{extra}.txt" if extra else "requirements.txt"
    path = _ROOT / file
    if path.is_file():
        step = f'"{sys.executable}" -m pip install -r "{path}"'
        wanted = [line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines()]
        lines, where = [line for line in wanted if line and not line.startswith("-")], file
    elif (ranges := _of_package(extra)) is not None:
        lines, where = ranges, f"{_DISTRIBUTION}[{extra}]" if extra else _DISTRIBUTION
        step = f'"{sys.executable}" -m pip install {" ".join(map(shlex.quote, lines))}'
    else:
        yield Finding("packages", Level.WARNING, f"{path} is missing", "restore it from the source")
        return
    wrong = [problem for line in lines if (problem := _problem(line))]
    for problem in wrong:
        yield Finding("packages", Level.ERROR, problem, step)
    if not wrong:
        yield Finding("packages", Level.OK, f"all {len(lines)} of {where} are installed")


def _of_package(extra: str) -> list[str] | None:
    """Return the ranges in the installed package's metadata; None where it is not installed."""
    try:
        lines = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return None
    found: list[str] = []
    for line in lines:
        text, _, marker = line.partition(";")
        of_extra = re.search(r"extra\s*==\s*['\"]([\w-]+)", marker)
        if (of_extra[1] if of_extra else "") == extra:
            found.append(text.strip())
    return found


def tested_versions() -> Iterator[Finding]:
    """Name the installed packages that are not of the versions that this release was tested with.

    Those stand in the locks, `requirements*.lock`; what is not installed does not matter here.
    """
    locks = sorted(_ROOT.glob("requirements*.lock"))
    if not locks:
        yield Finding("tested versions", Level.OK, "unknown: there is no requirements.lock")
        return
    compared: set[str] = set()
    untested: list[str] = []
    files: dict[str, None] = {}
    for lock in locks:
        for name, version in _pinned(lock.read_text("utf-8")):
            installed = _installed(name)
            if installed is None or name in compared or name in _OF_PYTHON:
                continue
            compared.add(name)
            # A build's own part, as in 2.14.1+cu130, is the index's.
            if installed.partition("+")[0] != version:
                untested.append(f"{name} {installed} (tested: {version})")
                files[f'-r "{lock}"'] = None
    if not untested:
        text = f"all {len(compared)} packages are of the versions that were tested"
        yield Finding("tested versions", Level.OK, text)
        return
    text = f"{len(untested)} of {len(compared)} packages were not tested so: {', '.join(untested)}"
    command = f'"{sys.executable}" -m pip install --no-deps {" ".join(files)}'
    step = f"if something fails, try the tested ones: {command}"
    yield Finding("tested versions", Level.WARNING, text, step)


def _pinned(lock: str) -> Iterator[tuple[str, str]]:
    """Yield the names and versions of a lock that count for this Python and system."""
    for name, version, marker in _PINNED.findall(lock):
        if marker:
            try:
                from packaging.markers import Marker  # noqa: PLC0415
            except ImportError:
                continue
            if not Marker(marker.strip()).evaluate():
                continue
        yield name, version


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _problem(line: str) -> str | None:
    name = next(
        (line[:i] for i, c in enumerate(line) if not (c.isalnum() or c in "._-")), line
    ).strip()
    version = _installed(name)
    if version is None:
        return f"{name} is not installed"
    try:
        from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415
    except ImportError:  # It comes with transformers; then that is missing, too.
        return None
    try:
        specifier = Requirement(line).specifier
    except InvalidRequirement:
        return f"{line} in the requirements cannot be read"
    if specifier.contains(version, prereleases=True):
        return None
    return f"{name} {version} is installed, {specifier} is wanted"


def optional_packages(settings: Settings) -> Iterator[Finding]:
    """Look for what IMAGE_CHECK=true and ENGINES=ray need in addition."""
    asked = dict(zip(EXTRAS, (settings.image_check, settings.engines == "ray"), strict=True))
    if not any(asked.values()):
        yield Finding("optional packages", Level.OK, "none is asked for")
    for extra in (extra for extra, wanted in asked.items() if wanted):
        for found in packages(extra):
            yield Finding("optional packages", found.level, found.text, found.step)
