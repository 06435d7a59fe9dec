"""Checks of the graphics card, its driver and memory, and of PyTorch, which a child imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bot.config.settings import Settings
from bot.doctor.budget import SMI_S, graphics_memory, pinned_wanted
from bot.doctor.finding import Finding, Level
from bot.engine.parent.environment import child_environment
from bot.machine import nvidia

_PROBE_S: Final = 150.0
_NVIDIA: Final = "0x10de"
_DISPLAY_CLASS: Final = "0x03"
_GIB: Final = 2**30
# Earlier cards have no bfloat16, in which the models compute.
_LEAST_CAPABILITY: Final = (8, 0)
_CUDA_INDEX: Final = "https://download.pytorch.org/whl/cu128"
_DRIVER_STEP: Final = "install the driver from https://www.nvidia.com/drivers"


def needs_card(settings: Settings) -> bool:
    """Tell whether there is a model that cannot be drawn with on a CPU."""
    return not all(spec.built_in for spec in settings.models)


def graphics_card(settings: Settings) -> Iterator[Finding]:
    """Name the card, and whether what is free of it covers the budget."""
    cards = nvidia.cards(SMI_S)
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
    yield from graphics_memory(settings, card, wanted=needs_card(settings))


def pytorch(settings: Settings) -> Iterator[Finding]:
    """Have a child import PyTorch and use the card."""
    told = probe(pinned_wanted(settings) or 0)
    if isinstance(told, str):
        again = f'"{sys.executable}" -m pip install --force-reinstall torch torchvision'
        yield Finding("PyTorch", Level.ERROR, told, again)
        return
    version = f"{told['version']}, built for " + (
        f"CUDA {told['cuda']}" if told["cuda"] else "the CPU alone"
    )
    if told["available"]:
        capability = ".".join(map(str, told["capability"]))
        uses = f"{version}; uses {told['device']}, of compute capability {capability}"
        if needs_card(settings) and tuple(told["capability"]) < _LEAST_CAPABILITY:
            step = f"use a card of the RTX 30 series or a later one, {_or_toy(settings)}"
            yield Finding("PyTorch", Level.ERROR, f"{uses}, which is below 8.0", step)
            return
        yield Finding("PyTorch", Level.OK, uses)
        yield from _pinning(told)
    elif not needs_card(settings):
        yield Finding("PyTorch", Level.OK, f"{version}; the tiny model needs no card")
    elif not card_present():
        text = f"{version}; there is no NVIDIA card for it{_because(told)}"
        yield Finding("PyTorch", Level.ERROR, text, f"{_DRIVER_STEP}, {_or_toy(settings)}")
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
    wanted, pinned = told["pin_wanted"] / _GIB, told["pinned"] / _GIB
    if not wanted:
        return
    if pinned >= wanted:
        text = f"the card can fetch {wanted:.1f} GiB of main memory by itself, as the engine wants"
        yield Finding("pinned memory", Level.OK, text)
        return
    yield Finding(
        "pinned memory",
        Level.WARNING,
        f"{pinned:.1f} of the {wanted:.1f} GiB that the engine wants could be pinned "
        f"({told['pinned_error']}); it draws all the same, more slowly",
        "give the machine, container or WSL (memory= in .wslconfig) more memory",
    )


def card_present() -> bool:
    """Tell whether an NVIDIA card is in this machine, with or without a driver."""
    if not isinstance(nvidia.cards(SMI_S), str):
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


def probe(pin_bytes: int) -> dict[str, Any] | str:
    """Return what `bot.engine.child.probe` says of PyTorch, or why it says nothing.

    It tries to pin `pin_bytes` of main memory.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own module and a number
            [sys.executable, "-m", "bot.engine.child.probe", str(pin_bytes)],
            env=child_environment(),
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
    step = f"{_DRIVER_STEP}, {_or_toy(settings)}"
    return Finding("graphics card", Level.ERROR, f"none that NVIDIA's driver knows ({why})", step)


def _or_toy(settings: Settings) -> str:
    """Return the step after which no card is needed."""
    return "or set IMAGE_MODEL_NAME=tiny" + (" and IMAGE_MODELS=" if settings.image_models else "")


def _because(told: dict[str, Any]) -> str:
    return f" ({told['why']})" if told.get("why") else ""
