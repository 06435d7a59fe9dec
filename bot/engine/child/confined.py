"""The confinement of the engine's child: its model, its jobs' folder, and what it may keep."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

from bot.catalogue.models import find_model, sharing
from bot.engine.confinement.confine import Confinement, confine, say
from bot.engine.confinement.policy import AccessPolicy, access_policy
from bot.engine.files.fetcher import Fetch
from bot.engine.files.find import (
    COMPILED_FOLDER,
    cache_folder,
    delegate_downloads,
    home,
)
from bot.engine.options import EngineOptions
from bot.errors import ConfigError, EngineError, EngineErrorKind
from bot.words import mark

_SCRATCH: Final = "tmp"
_MODPROBE_LIMIT_S: Final = 30.0


def confine_engine(model: str, options: EngineOptions) -> None:
    """Confine this process, which must have no second thread yet, as `options` say.

    Raises `EngineError` (`LOAD_FAILED`) where confinement is required and not to be had.
    """
    if options.confinement == "off":
        return
    if options.work_path is None:
        if options.confinement == "required":
            raise EngineError(EngineErrorKind.LOAD_FAILED, "it was given no folder to work in")
        return
    published = [name for name in _models(model, options) if _published(name)]
    if (fetch := Fetch.start(published, options)) is not None:
        delegate_downloads(fetch.run)
    _make_devices()
    confinement = confine(engine_policy(model, options, options.work_path))
    say(confinement)
    if options.confinement == "required":
        _require(confinement)


def engine_policy(model: str, options: EngineOptions, work: Path) -> AccessPolicy:
    """Return what an engine may do that writes pictures beneath `work`."""
    root = options.model_path
    reads, caches = [root, options.lora_path], [root / COMPILED_FOLDER]
    published = [name for name in _models(model, options) if _published(name)]
    for name in published:
        reads.append(home(root, name))
        caches.append(cache_folder(root, name, options.precision))
    for name in dict.fromkeys(other for one in published for other in sharing(one)):
        if name not in published and home(root, name).is_dir():
            # Not drawn with, but its text encoder may be.
            reads.append(home(root, name))
            caches.append(cache_folder(root, name, options.precision))
    for folder in (*reads, *caches) if published else ():
        # Only what is there can be allowed, and files may come later. A read-only model folder does
        # without caches.
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
    return access_policy(
        work / _SCRATCH,
        reads=reads,
        output=work,
        caches=caches,
        closed=map(Path, options.closed),
        compiled=root / COMPILED_FOLDER if published else None,
    )


def _models(model: str, options: EngineOptions) -> list[str]:
    """Return all models that the engine may be asked for, its own first."""
    return list(dict.fromkeys((model, *options.models)))


def _published(model: str) -> bool:
    try:
        return find_model(model).published is not None
    except ConfigError:
        return False


def _make_devices() -> None:
    """Have NVIDIA's driver make its device files, which the first CUDA program of a boot does.

    It does so by a setuid program, which a confined process cannot use.
    """
    program = shutil.which("nvidia-modprobe")
    if program and Path("/proc/driver/nvidia").exists() and not Path("/dev/nvidia-uvm").exists():
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(  # noqa: S603 - found in PATH
                [program, "-c", "0", "-u"], check=False, timeout=_MODPROBE_LIMIT_S
            )


def _require(confinement: Confinement) -> None:
    if not confinement.whole:
        raise EngineError(
            EngineErrorKind.LOAD_FAILED,
            f"{confinement}",
            sentence=mark(
                "This machine cannot confine the image engine, as ENGINE_CONFINEMENT asks for."
            ),
        )
