"""The engine's confinement on this machine, with its card: `python -m bot bench confined FOLDER`.

The engine's own child loads, compiles and draws as it does for the bot, with a made-up `.env`,
database and picture of somebody else beside it, which the child tries to open before each picture.
What it should not be able to do, and could, is a failure; so is a picture that it cannot draw.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from bot.engine.child.backend import Backend, Drawn, LoadInfo, Reporter, WrittenText
from bot.engine.models.build import build as build_model
from bot.engine.options import EngineOptions, LoadProgress
from bot.engine.parent.process import EngineProcess
from bot.engine.protocol import EngineRequest, WriteRequest
from bot.errors import BotError
from bot.lab.bench.picture import PATIENT, draw_job, write_random_files

_TOLD: Final = "BENCH_CONFINED"
_FOUND: Final = "found.json"
_KEPT_LINES: Final = ("confined", "compile", "CUDA", "Error")


class _Prying:
    """The model's own backend, with a look around before each picture."""

    def __init__(self, model: str, options: EngineOptions) -> None:
        self._backend: Backend = build_model(model, options)
        self._told: dict[str, Any] = json.loads(Path(options.model_path, _TOLD).read_text("utf-8"))

    def load(self, progress: LoadProgress) -> LoadInfo:
        """See `Backend`."""
        return self._backend.load(progress)

    @property
    def held(self) -> str | None:
        """See `Backend`."""
        return self._backend.held

    def switch(self, model: str, progress: LoadProgress) -> LoadInfo:
        """See `Backend`."""
        return self._backend.switch(model, progress)

    def generate(self, request: EngineRequest, report: Reporter) -> Iterator[Drawn]:
        """See `Backend`."""
        found = {name: _tried(attempt) for name, attempt in _attempts(self._told).items()}
        (request.output_dir / _FOUND).write_text(json.dumps(found), "utf-8")
        yield from self._backend.generate(request, report)

    def write(self, request: WriteRequest, report: Reporter) -> WrittenText:
        """See `Backend`."""
        return self._backend.write(request, report)


def build(model: str, options: EngineOptions) -> Backend:
    """Return the backend that `EngineOptions.pipeline` names here."""
    return _Prying(model, options)


def _attempts(told: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Return what a poisoned engine would do."""

    def connect(kind: int) -> None:
        with socket.socket(socket.AF_INET, kind) as opened:
            opened.connect(tuple(told["address"]))
            opened.send(b"x")

    attempts: dict[str, Callable[[], object]] = {
        "TCP connect": lambda: connect(socket.SOCK_STREAM),
        "UDP send": lambda: connect(socket.SOCK_DGRAM),
        "read the parent's environment": Path(f"/proc/{os.getppid()}/environ").read_bytes,
        "signal the parent": lambda: os.kill(os.getppid(), 0),
    }
    for name, path in told["files"].items():
        attempts[f"read {name}"] = Path(path).read_bytes
        attempts[f"write {name}"] = lambda path=path: Path(path).write_bytes(b"planted")
    for name, path in told["folders"].items():
        attempts[f"list {name}"] = lambda path=path: list(Path(path).iterdir())
        attempts[f"write into {name}"] = lambda path=path: _plant(Path(path, ".planted"))
    return attempts


def _plant(path: Path) -> None:
    """Make a file, and remove it: the folder may be somebody's own."""
    path.touch(exist_ok=False)
    path.unlink()


def _tried(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return type(error).__name__
    return "DONE"


class _Lines(logging.Handler):
    """Keeps what the child says of its confinement, of compiling and of failures."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if any(word in line for word in _KEPT_LINES):
            self.lines.append(line[:300])


def run(options: argparse.Namespace) -> int:
    """Draw and look; print the findings as JSON; return how many failures there are."""
    write_random_files(options)
    options.folder.mkdir(parents=True, exist_ok=True)
    figures = asyncio.run(_run(options))
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    return len(figures["failures"])


async def _run(options: argparse.Namespace) -> dict[str, Any]:
    lines = _Lines()
    logger = logging.getLogger("bot.engine.child")
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    figures: dict[str, Any] = {"jobs": [], "failures": []}
    with tempfile.TemporaryDirectory() as folder, closing(_listener()) as listener:
        data = Path(folder, "data")
        work = data / "images" / ".work" / "engine-0"
        work.mkdir(parents=True)
        files = {".env": Path(folder, ".env"), "the database": data / "bot.sqlite3"}
        files["another's picture"] = data / "images" / "0.png"
        for path in files.values():
            path.write_text("canary", "utf-8")
        folders = {"the data folder": data, "the home folder": Path.home(), "/": Path("/")}
        told = {"address": listener.getsockname()}
        told |= {"files": {name: str(path) for name, path in files.items()}}
        told |= {"folders": {name: str(path) for name, path in folders.items()}}
        (options.folder / _TOLD).write_text(json.dumps(told), "utf-8")
        settings = EngineOptions(
            options.folder,
            vram_gb=14.0,
            precision=options.precision,
            pipeline=f"{__name__}:build",
            confinement="auto",
            work_path=work,
            closed=(str(files[".env"]), str(data)),
        )
        engine = EngineProcess(options.model, options=settings, limits=PATIENT)
        try:
            for number in range(2):  # The second shows the speed of compiled blocks.
                output = work / f"job{number}"
                output.mkdir()
                job = await draw_job(engine, output, options, figures)
                job["outcomes"] = json.loads((output / _FOUND).read_text("utf-8"))
                figures["jobs"].append(job)
        except BotError as error:
            figures["failures"].append(str(error))
        finally:
            await engine.close()
            logger.removeHandler(lines)
            (options.folder / _TOLD).unlink()
        changed = [name for name, path in files.items() if path.read_text("utf-8") != "canary"]
    compiled = options.folder / "compiled"
    figures["said"] = lines.lines
    figures["compiled_files"] = sum(path.is_file() for path in compiled.rglob("*"))
    done = {
        name
        for job in figures["jobs"]
        for name, outcome in job["outcomes"].items()
        if outcome == "DONE"
    }
    figures["failures"] += sorted(f"it could {name}" for name in done)
    figures["failures"] += [f"{name} was changed" for name in changed]
    return figures


def _listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))
