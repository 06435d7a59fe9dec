"""What `python -m bot smoke` last drew, kept for the doctor: card, versions, seconds, hash."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Final, cast

from bot import __version__
from bot.config.settings import Settings
from bot.doctor.budget import SMI_S
from bot.doctor.finding import Finding, Level
from bot.machine import nvidia

FILE: Final = "smoke.json"
_PACKAGES: Final = ("torch", "triton", "diffsynth", "transformers")
_MOST_BYTES: Final = 2**16
_STEP: Final = (
    "python -m bot smoke draws a picture of a fixed prompt and seed, and keeps how it went"
)


def machine() -> dict[str, Any]:
    """Return what a report names of this machine: system, versions, and each card with its driver.

    Memory is in bytes. May block for as long as nvidia-smi takes.
    """
    versions = {"bot": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    cards = nvidia.cards(SMI_S)
    named = [] if isinstance(cards, str) else cards
    return {
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions,
        "cards": [{"name": c.name, "bytes": c.total, "driver": c.driver} for c in named],
    }


def keep(settings: Settings, drawn: Sequence[Mapping[str, Any]]) -> Path | None:
    """Write what each model drew, with the machine, to the data folder; None where it cannot be.

    One report is written by itself, several as a list.
    """
    path = settings.data_dir / FILE
    here = {
        "precision": settings.image_precision,
        "offload": settings.image_offload,
        **machine(),
    }
    reports = [{"model": one["model"], **here, **one} for one in drawn]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = reports[0] if len(reports) == 1 else reports
        path.write_text(json.dumps(kept, indent=2) + "\n", "utf-8")
    except OSError:
        return None
    return path


def last_smoke(settings: Settings) -> Iterator[Finding]:
    """Tell what was last drawn by `smoke`, with all of it as facts."""
    name = "last smoke"
    try:
        with (settings.data_dir / FILE).open("rb") as file:
            kept: Any = json.loads(file.read(_MOST_BYTES))
        several = isinstance(kept, list) and bool(cast("list[Any]", kept))
        reports = cast("list[dict[str, Any]]", kept if several else [kept])
        lines = [_line(report) for report in reports]
    except FileNotFoundError:
        yield Finding(name, Level.OK, f"none yet: {_STEP}")
    except (ValueError, KeyError, TypeError):
        text = f"{settings.data_dir / FILE} cannot be read"
        yield Finding(name, Level.WARNING, text, _STEP)
    else:
        for text, facts in zip(lines, reports, strict=True):
            yield Finding(name, Level.OK, text, facts=facts)


def _line(report: Mapping[str, Any]) -> str:
    """Return a report in a line; raise `ValueError`, `KeyError` or `TypeError` if it is none."""
    seconds, sha256 = float(report["seconds"]["total"]), str(report["sha256"])
    text = f"{report['model']} drew {report['width']}x{report['height']} in {report['steps']} steps"
    return f"{text} and {seconds:.1f} s on {report['device']}; SHA-256 of its pixels {sha256}"
