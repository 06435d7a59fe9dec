"""Checks of the graphics card, its driver and memory, and of PyTorch, which a child imports."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bot.config.settings import Settings
from bot.doctor.finding import Finding, Level
from bot.machine import nvidia

_SMI_S: Final = 15.0
_PROBE_S: Final = 150.0
_NVIDIA: Final = "0x10de"
_DISPLAY_CLASS: Final = "0x03"
_GIB: Final = 2**30
# A text encoder and two blocks, beside what the operating system shows windows with.
_ROOM: Final = 0.5
_CUDA_INDEX: Final = "https://download.pytorch.org/whl/cu128"
_NO_CARD_STEP: Final = (
    "install the driver from https://www.nvidia.com/drivers, or set IMAGE_MODEL_NAME=tiny"
)


def needs_card(settings: Settings) -> bool:
    """Tell whether the model cannot be drawn with on a CPU."""
    return not settings.model.built_in


def graphics_card(settings: Settings) -> Iterator[Finding]:
    """Name the card, and whether what is free of it covers the budget."""
    cards = nvidia.cards(_SMI_S)
    if isinstance(cards, str):
        yield _no_card(settings, cards)
        return
    shown = len(nvidia.visible()) if nvidia.VISIBLE in os.environ else len(cards)
    wanted = settings.local_engines or shown
    yield Finding(
        "graphics card",
        Level.OK,
        "; ".join(f"{c.name}, {c.total / _GIB:.1f} GiB" for c in cards)
        + f", driver {cards[0].driver}",
    )
    if needs_card(settings) and not 0 < wanted <= shown:
        yield Finding(
            "graphics card",
            Level.ERROR,
            f"ENGINES={settings.engines} wants more cards than CUDA_VISIBLE_DEVICES and the driver "
            f"show ({shown})",
            "set ENGINES=local for one engine on each card that is shown, or show more cards",
        )
    # Which of them engines get, only CUDA can say; what the fullest can do, all can.
    card = min(cards, key=lambda card: card.free)
    share = settings.image_gpu_memory_utilization * card.total
    budget = min(settings.image_vram_gb * _GIB, share)
    by = "IMAGE_VRAM_GB" if budget < share else "IMAGE_GPU_MEMORY_UTILIZATION"
    text = (
        f"{card.free / _GIB:.1f} GiB free; the budget is {budget / _GIB:.1f} GiB (by {by}) and the "
        f"driver's own {_ROOM:g} GiB"
    )
    published = settings.model.published
    if published is not None and budget < published.vram_gib * _GIB:
        yield Finding(
            "graphics memory",
            Level.ERROR,
            f"{text}; {settings.image_model_name} wants {published.vram_gib:g} GiB",
            f"raise {by}, or set IMAGE_MODEL_NAME to a smaller model (docs/models.md)",
        )
        return
    if not needs_card(settings) or card.free >= budget + _ROOM * _GIB:
        yield Finding("graphics memory", Level.OK, text)
        return
    yield Finding(
        "graphics memory",
        Level.WARNING,
        f"{text}{_users()}",
        "close other programs that use the card (nvidia-smi -l 1 shows them), or lower "
        f"{by}; a running bot's own engine counts as one",
    )


def pytorch(settings: Settings) -> Iterator[Finding]:
    """Have a child import PyTorch and use the card."""
    told = probe()
    if isinstance(told, str):
        again = f'"{sys.executable}" -m pip install --force-reinstall torch torchvision'
        yield Finding("PyTorch", Level.ERROR, told, again)
        return
    version = f"{told['version']}, built for " + (
        f"CUDA {told['cuda']}" if told["cuda"] else "the CPU alone"
    )
    if told["available"]:
        yield Finding("PyTorch", Level.OK, f"{version}; uses {told['device']}")
        yield from _pinning(told)
    elif not needs_card(settings):
        yield Finding("PyTorch", Level.OK, f"{version}; the tiny model needs no card")
    elif not card_present():
        text = f"{version}; there is no NVIDIA card for it{_because(told)}"
        yield Finding("PyTorch", Level.ERROR, text, _NO_CARD_STEP)
    elif told["cuda"]:
        yield Finding(
            "PyTorch",
            Level.ERROR,
            f"{version}; it cannot use the card{_because(told)}",
            "update the driver (https://www.nvidia.com/drivers), or install the PyTorch that fits "
            "it: https://pytorch.org/get-started/locally/",
        )
    else:
        yield Finding(
            "PyTorch",
            Level.ERROR,
            f"{version}, but there is an NVIDIA card in this machine",
            f'"{sys.executable}" -m pip install --force-reinstall torch torchvision --index-url '
            f"{_CUDA_INDEX}",
        )


def _pinning(told: dict[str, Any]) -> Iterator[Finding]:
    if told["pinned"]:
        yield Finding("pinned memory", Level.OK, "the card can fetch from main memory by itself")
    else:
        yield Finding(
            "pinned memory",
            Level.ERROR,
            f"1 GiB of main memory could not be pinned ({told['pinned_error']})",
            "give the machine, container or WSL (memory= in .wslconfig) more memory",
        )


def card_present() -> bool:
    """Tell whether an NVIDIA card is in this machine, with or without a driver."""
    if not isinstance(nvidia.cards(_SMI_S), str):
        return True
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor = (device / "vendor").read_text("ascii").strip()
            kind = (device / "class").read_text("ascii").strip()
        except OSError:
            continue
        if vendor == _NVIDIA and kind.startswith(_DISPLAY_CLASS):
            return True
    return False


def probe() -> dict[str, Any] | str:
    """Return what `bot.engine.child.probe` says of PyTorch, or why it says nothing."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bot.engine.child.probe"],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it could not be imported within {_PROBE_S:g} s"
    except OSError as error:
        return f"a child process could not be started ({error.strerror})"
    lines = done.stdout.splitlines()
    try:
        told: dict[str, Any] = json.loads(lines[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"it cannot be imported (exit status {done.returncode}: {last[:200]})"
    return told


def _no_card(settings: Settings, why: str) -> Finding:
    if not needs_card(settings):
        return Finding("graphics card", Level.OK, f"none ({why}); the tiny model needs none")
    if card_present():
        return Finding(
            "graphics card",
            Level.ERROR,
            f"an NVIDIA card is there, but its driver does not answer ({why})",
            "install the driver from https://www.nvidia.com/drivers and restart the machine; in a "
            "container: the NVIDIA Container Toolkit and --gpus all",
        )
    return Finding(
        "graphics card", Level.ERROR, f"none that NVIDIA's driver knows ({why})", _NO_CARD_STEP
    )


def _users() -> str:
    lines = nvidia.programs(_SMI_S)[:5]
    if not lines:
        return ""
    return "; in use by " + ", ".join(re.sub(r"\s+", " ", line)[:80] for line in lines)


def _because(told: dict[str, Any]) -> str:
    return f" ({told['why']})" if told.get("why") else ""
