"""Findings: what a check found, and how it is shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # The report has to appear even where pydantic is missing.
    from bot.config.settings import Settings


class Level(StrEnum):
    """How bad it is. Only an error makes the exit code 1."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `step` says what to do next; empty where there is nothing to do.

    `facts` are the figures behind the line, for programs alone.
    """

    check: str
    level: Level
    text: str
    step: str = ""
    facts: Mapping[str, Any] | None = None


Check = Callable[["Settings"], Iterable[Finding]]
"""A check changes nothing that is there; what it raises becomes an error of its own."""


def say(findings: Iterable[Finding]) -> list[Finding]:
    """Print each finding as it comes, and their number; in colour on a terminal."""
    show = _shower()
    said: list[Finding] = []
    for finding in findings:
        show(finding)
        said.append(finding)
    counts = [sum(f.level is level for f in said) for level in (Level.ERROR, Level.WARNING)]
    sys.stdout.write(f"errors: {counts[0]}, warnings: {counts[1]}\n")
    return said


def _shower() -> Callable[[Finding], None]:
    try:
        from rich.console import Console  # noqa: PLC0415 - may be what is missing
        from rich.text import Text  # noqa: PLC0415
    except ImportError:
        return _show_plain
    if not sys.stdout.isatty():
        return _show_plain
    console = Console(highlight=False)
    styles = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}

    def show(finding: Finding) -> None:
        level = (f"{finding.level.upper():<9}", styles[finding.level])
        text = Text.assemble(level, (f"{finding.check}: ", "bold"), finding.text)
        # Soft: a command or a link that is to be copied stays in one piece.
        console.print(text, soft_wrap=True)
        if finding.step:
            console.print(Text(f"{'':<9}-> {finding.step}", "cyan"), soft_wrap=True)

    return show


def _show_plain(finding: Finding) -> None:
    sys.stdout.write(f"{finding.level.upper():<9}{finding.check}: {finding.text}\n")
    if finding.step:
        sys.stdout.write(f"{'':<9}-> {finding.step}\n")
    sys.stdout.flush()


def as_json(findings: Sequence[Finding]) -> str:
    """Return the report for programs: a list of findings, `facts` where there are any."""
    told = [asdict(finding) for finding in findings]
    for item in told:
        if item["facts"] is None:
            del item["facts"]
    return json.dumps(told, indent=2) + "\n"
