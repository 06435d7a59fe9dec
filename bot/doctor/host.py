"""Checks of main memory, of how much of it may be pinned, and of a compiler."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bot.catalogue.models import ModelSpec
from bot.config.settings import Settings
from bot.doctor.budget import pinned_wanted
from bot.doctor.card import needs_card
from bot.doctor.each import said_of
from bot.doctor.finding import Finding, Level
from bot.engine.host_memory import RESERVE, available_memory, total_memory, under_wsl

_GIB: Final = 2**30
_SEVERAL: Final = 2
# Less than this share of what the model wants is an error, not a warning.
_TOO_LITTLE: Final = 0.5


def main_memory(settings: Settings) -> Iterator[Finding]:
    """Compare main memory with what the engine holds of it for the largest model."""
    total = total_memory()
    if total is None:
        yield Finding("main memory", Level.OK, "its size cannot be told here")
        return
    limit = _container_limit()
    text = f"{total / _GIB:.1f} GiB"
    if limit is not None and limit < total:
        text, total = f"{limit / _GIB:.1f} GiB of the machine's {text}, by the container", limit
    if (available := available_memory()) is not None:
        text += f", {available / _GIB:.1f} GiB available"
    step = "add memory; swap does not help: weights would come from the disk at each step"
    wanting = [spec for spec in settings.models if spec.published]
    spec = max(wanting, key=_ram_gib, default=None)
    if spec is None or total >= _ram_gib(spec) * _GIB:
        yield Finding("main memory", Level.OK, text)
        return
    # Machines have powers of two in GB, less what firmware and graphics take.
    text += f"; {round(_ram_gib(spec) * 1.1):.0f} GB are wanted{said_of(spec, settings.models)}"
    enough = total >= _TOO_LITTLE * _ram_gib(spec) * _GIB
    yield Finding("main memory", Level.WARNING if enough else Level.ERROR, text, step)


def kept_models(settings: Settings) -> Iterator[Finding]:
    """Say whether models that an engine is switched from have room in main memory."""
    name, models = "models kept", [model for model in settings.models if model.published]
    limit = settings.image_keep_models
    if len(models) < _SEVERAL:
        yield Finding(name, Level.OK, "there are no two models to switch between")
        return
    if limit == 0:
        yield Finding(name, Level.OK, "none: switches read from the disk (IMAGE_KEEP_MODELS=0)")
        return
    wanted = sum(model.published.ram_gib for model in models if model.published)
    total, container = total_memory(), _container_limit()
    if total is None:
        yield Finding(name, Level.OK, "the size of main memory cannot be told here")
        return
    total = min(total, container or total)
    text = f"all {len(models)} take up to {wanted:.0f} GiB of main memory"
    if limit is not None:
        text += f", of which those that are left may take {limit:g} (IMAGE_KEEP_MODELS)"
    if total >= wanted * _GIB + RESERVE:
        yield Finding(name, Level.OK, f"{text}; there is room for them")
        return
    yield Finding(
        name,
        Level.OK,
        f"{text}; there are {total / _GIB:.0f}: switches read from the disk what has no room",
    )


def pinned_memory(settings: Settings) -> Iterator[Finding]:
    """Tell how much the engine pins, and what limits it."""
    if not needs_card(settings):
        yield Finding("pinned memory", Level.OK, "the tiny model pins none")
        return
    if not _streams(settings) or settings.image_offload == "stock":
        yield Finding("pinned memory", Level.OK, "the model's weights wait in ordinary memory")
        return
    wanted = pinned_wanted(settings)
    if wanted is None:
        yield Finding("pinned memory", Level.OK, "there is no card to fetch from it")
        return
    text = f"the engine pins about {wanted / _GIB:.1f} GiB at the present budget"
    if under_wsl():
        text += ", which is the most that WSL 2 bears; the rest waits in ordinary memory"
    yield Finding("pinned memory", Level.OK, text + _locked_limit())


def compiler(settings: Settings) -> Iterator[Finding]:
    """Look for what compiling the model's blocks needs: Triton, a C compiler, Python's headers."""
    if not needs_card(settings):
        yield Finding("compiler", Level.OK, "the tiny model is not compiled")
        return
    if not _streams(settings):
        names = [spec.name for spec in settings.models if not spec.built_in]
        text = f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} not compiled"
        yield Finding("compiler", Level.OK, text)
        return
    if not settings.image_compile:
        yield Finding("compiler", Level.OK, "not wanted (IMAGE_COMPILE=false)")
        return
    missing: list[str] = []
    if importlib.util.find_spec("triton") is None:
        missing.append("Triton")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if sys.platform != "win32":  # Triton for Windows brings both
        if not (os.environ.get("CC") or shutil.which("cc")):
            missing.append("a C compiler")
        if not header.is_file():
            missing.append(f"Python's headers ({header})")
    if not missing:
        yield Finding("compiler", Level.OK, "what blocks are compiled with is there")
        return
    if sys.platform == "win32":
        step = f'"{sys.executable}" -m pip install triton-windows'
    else:
        step = "sudo apt install gcc python3-dev (Triton comes with PyTorch's CUDA build)"
    yield Finding(
        "compiler",
        Level.WARNING,
        f"missing: {', '.join(missing)}; a step takes about 1.4 times as long without",
        f"{step}; or IMAGE_COMPILE=false",
    )


def _ram_gib(spec: ModelSpec) -> float:
    return spec.published.ram_gib if spec.published else 0.0


def _streams(settings: Settings) -> bool:
    """Tell whether there is a model that is streamed to a card."""
    return any(spec.streamed and not spec.built_in for spec in settings.models)


def _locked_limit() -> str:
    if sys.platform == "win32":
        return ""
    import resource  # noqa: PLC0415 - Unix only

    soft, _hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    limit = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft / 2**20:.0f} MiB"
    return f"; ulimit -l is {limit}, which does not bind NVIDIA's driver"


def _container_limit() -> int | None:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(path).read_text("ascii"))
        except (OSError, ValueError):  # No control group, or "max".
            continue
    return None
