"""What `python -m bot smoke` last drew, kept for the doctor: card, versions, seconds, hash."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Final

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


def keep(settings: Settings, drawn: Mapping[str, Any]) -> Path | None:
    """Write `drawn`, with model and machine, to the data folder; None where it cannot be."""
    path = settings.data_dir / FILE
    model = {
        "model": settings.image_model_name,
        "precision": settings.image_precision,
        "offload": settings.image_offload,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**model, **machine(), **drawn}, indent=2) + "\n", "utf-8")
    except OSError:
        return None
    return path


def last_smoke(settings: Settings) -> Iterator[Finding]:
    """Tell what was last drawn by `smoke`, with all of it as facts."""
    name = "last smoke"
    try:
        with (settings.data_dir / FILE).open("rb") as file:
            kept: dict[str, Any] = json.loads(file.read(_MOST_BYTES))
        seconds, sha256 = float(kept["seconds"]["total"]), str(kept["sha256"])
        text = (
            f"{kept['model']} drew {kept['width']}x{kept['height']} in {kept['steps']} steps and "
        )
        text += f"{seconds:.1f} s on {kept['device']}; SHA-256 of its pixels {sha256}"
    except FileNotFoundError:
        yield Finding(name, Level.OK, f"none yet: {_STEP}")
    except (ValueError, KeyError, TypeError):
        text = f"{settings.data_dir / FILE} cannot be read"
        yield Finding(name, Level.WARNING, text, _STEP)
    else:
        yield Finding(name, Level.OK, text, facts=kept)
