"""Checks of the engine's last failure, and of the settings around it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from bot.config.settings import Settings
from bot.doctor.disk import existing
from bot.doctor.finding import Finding, Level
from bot.engine.parent.environment import child_environment
from bot.errors import EngineErrorKind
from bot.logs.file import FILE_NAME
from storage.backup import connect_read_only
from storage.facts import LOAD_FAILURE

_LAST_FAULT: Final = """
SELECT id, error_kind, error_detail, coalesce(finished_at, started_at, created_at) AS at FROM jobs
WHERE error_kind IS NOT NULL ORDER BY at DESC LIMIT 1
"""
_LAST_PICTURE: Final = "SELECT max(finished_at) FROM jobs WHERE state = 'generated'"
_LOAD_FAILURE: Final = "SELECT value FROM facts WHERE name = ?"
_OTHERS_MAY_READ: Final = 0o077
_STEPS: Final[dict[str, str]] = {
    EngineErrorKind.OUT_OF_MEMORY: "lower IMAGE_VRAM_GB or IMAGE_GPU_MEMORY_UTILIZATION, close "
    "other programs that use the card (nvidia-smi -l 1), or ask for smaller pictures",
    EngineErrorKind.LOAD_FAILED: "see the lines about the model, the card and PyTorch above",
    EngineErrorKind.DISK_REFUSED: "make room on the disk of DATA_DIR",
    EngineErrorKind.SWITCH_FAILED: "the log says what that model lacks (IMAGE_MODELS)",
    EngineErrorKind.SILENT: "fewer steps or a smaller size; if it comes back, the log around it",
}
_STEP: Final = "read the log around it, and try `python -m bot smoke`"


def last_fault(settings: Settings) -> Iterator[Finding]:
    """Name the engine's last failure, a warning if no picture was drawn since."""
    path = settings.database_path
    if not path.exists():
        yield Finding("last engine error", Level.OK, "none: nothing was drawn yet")
        return
    try:
        with closing(connect_read_only(path)) as connection:
            fault = connection.execute(_LAST_FAULT).fetchone()
            (drawn,) = connection.execute(_LAST_PICTURE).fetchone()
            unloadable = connection.execute(_LOAD_FAILURE, (LOAD_FAILURE,)).fetchone()
    except sqlite3.DatabaseError:
        # The lines about the database itself say what is wrong with it.
        yield Finding("last engine error", Level.OK, "not known: see the database's lines")
        return
    if unloadable is not None:  # It is deleted as soon as the model can be loaded.
        failure = json.loads(unloadable[0])
        when, detail = _ago(time.time() - failure["at"]), " ".join(failure["detail"].split())[:200]
        step = _STEPS[EngineErrorKind.LOAD_FAILED]
        text = f"the model could not be loaded, {when}: {detail}"
        yield Finding("last engine error", Level.ERROR, text, step)
        return
    if fault is None:
        yield Finding("last engine error", Level.OK, "none")
        return
    job, kind, detail, at = fault
    when = _ago(time.time() - at)
    text = f"{kind}, {when}, in job {job}: {' '.join(str(detail or '').split())[:200]}"
    if drawn is not None and drawn > at:
        yield Finding("last engine error", Level.OK, f"{text}; pictures were drawn since")
    else:
        step = f"{_STEPS.get(kind, _STEP)}{_in_log(settings, job)}"
        yield Finding("last engine error", Level.WARNING, text, step)


def confinement(settings: Settings) -> Iterator[Finding]:
    """Try in a process of its own how far this system confines the engine's."""
    name, mode = "engine confinement", settings.engine_confinement
    if mode == "off":
        step = "ENGINE_CONFINEMENT=auto, unless something does not work with it"
        yield Finding(name, Level.WARNING, "switched off (ENGINE_CONFINEMENT=off)", step)
        return
    command = [sys.executable, "-m", "bot.engine.confinement.confine"]
    done = subprocess.run(  # noqa: S603 - this very program
        command, capture_output=True, text=True, check=False, env=child_environment()
    )
    said = done.stdout.strip() or "it could not be tried"
    if done.returncode == 0 and not said.startswith("warning"):
        yield Finding(name, Level.OK, said)
        return
    level = Level.ERROR if mode == "required" else Level.WARNING
    step = "it takes Linux 5.19 or newer, with landlock in /sys/kernel/security/lsm"
    yield Finding(name, level, said.removeprefix("warning: "), step)


def log_folder(settings: Settings) -> Iterator[Finding]:
    """Look whether the log can be written."""
    folder = settings.log_folder
    if folder is None:
        yield Finding("log", Level.OK, "no file (LOG_DIR=-)")
        return
    file = folder / FILE_NAME
    try:
        place = existing(folder)
        writable = place.is_dir() and os.access(file if file.exists() else place, os.W_OK)
    except OSError:
        writable = False
    if writable:
        yield Finding("log", Level.OK, f"{file} can be written")
    else:
        step = "set LOG_DIR to a folder that the bot's user may write, or LOG_DIR=-"
        yield Finding("log", Level.WARNING, f"{file} cannot be written", step)


def secret_file(_settings: Settings) -> Iterator[Finding]:
    """Look who else may read `.env`, where the token stands."""
    path = Path(".env")
    if not path.is_file():
        yield Finding(".env", Level.OK, "none here; the environment and defaults count")
    elif sys.platform != "win32" and path.stat().st_mode & _OTHERS_MAY_READ:
        text = f"{path.absolute()} can be read by other users of this machine"
        yield Finding(".env", Level.WARNING, text, f"chmod 600 {path.absolute()}")
    else:
        yield Finding(".env", Level.OK, f"{path.absolute()} is yours alone")


def _in_log(settings: Settings, job: str) -> str:
    folder = settings.log_folder
    return "" if folder is None else f"; grep {job} {folder / FILE_NAME}"


def _ago(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name} ago"
    return "just now"
