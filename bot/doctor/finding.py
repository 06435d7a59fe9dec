"""What a check found, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from bot.settings import Settings


class Level(StrEnum):
    """How bad it is. Only an error makes the exit code 1."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `step` says what to do next; empty where there is nothing to do."""

    check: str
    level: Level
    text: str
    step: str = ""


Check = Callable[[Settings], Iterable[Finding]]
"""A check changes nothing that is there; what it raises becomes an error of its own."""


def as_text(findings: Sequence[Finding]) -> str:
    """Return the report for people: a line a finding, the next step below it."""
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{finding.level.upper():<9}{finding.check}: {finding.text}")
        if finding.step:
            lines.append(f"{'':<9}-> {finding.step}")
    counts = [sum(f.level is level for f in findings) for level in (Level.ERROR, Level.WARNING)]
    lines.append(f"errors: {counts[0]}, warnings: {counts[1]}")
    return "\n".join(lines) + "\n"


def as_json(findings: Sequence[Finding]) -> str:
    """Return the report for programs."""
    return json.dumps([asdict(finding) for finding in findings], indent=2) + "\n"
