"""Checks of Python and its packages; the standard library is all that they need."""

from __future__ import annotations

import platform
import struct
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from bot.doctor.finding import Finding, Level

_ROOT: Final = Path(__file__).parents[2]
_BITS: Final = 64


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


def packages(file: str = "requirements.txt") -> Iterator[Finding]:
    """Compare the installed packages with a requirements file."""
    path = _ROOT / file
    if not path.is_file():
        yield Finding("packages", Level.WARNING, f"{path} is missing", "restore it from the source")
        return
    step = f'"{sys.executable}" -m pip install -r "{path}"'
    wanted = [line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines()]
    lines = [line for line in wanted if line and not line.startswith("-")]
    wrong = [problem for line in lines if (problem := _problem(line))]
    for problem in wrong:
        yield Finding("packages", Level.ERROR, problem, step)
    if not wrong:
        yield Finding("packages", Level.OK, f"all {len(lines)} of {file} are installed")


def _problem(line: str) -> str | None:
    name = next(
        (line[:i] for i, c in enumerate(line) if not (c.isalnum() or c in "._-")), line
    ).strip()
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
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
