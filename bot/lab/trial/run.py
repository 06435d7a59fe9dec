"""The trial as its user meets it: a child process, started as an engine's is, and what it says.

Nothing here imports torch: as in the bot, only the child touches CUDA.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from bot.app.engines import engine_options
from bot.catalogue.models import ModelSpec
from bot.config.settings import Settings
from bot.engine.parent.environment import child_environment
from bot.lab.trial.wish import Wish
from bot.lab.trial.words import DECISIVE, better, line_of, verdict
from bot.machine import nvidia

LIMIT_S: Final = 240.0
"""Twice what it is meant to take."""
_ROOT: Final = Path(__file__).parents[3]
_LOG_SHOWN: Final = 1500
_COMMAND: Final = (sys.executable, "-m", "bot.lab.trial.child")
_DRIVER_S: Final = 15.0
Say = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """What a trial found: figures by part, and the parts that failed or were left out, and why."""

    model: str
    parts: dict[str, Any] = field(default_factory=dict[str, Any])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    driver: str | None = None
    log: str = ""
    """The end of what the child and its libraries wrote, where something failed."""

    @property
    def works(self) -> bool:
        """Whether a picture's seconds could be projected."""
        return "seconds" in self.parts

    def to_json(self) -> str:
        """Return it for programs."""
        told = {
            "model": self.model,
            "works": self.works,
            "verdict": verdict(self.model, self.parts, self.failed),
            "better": list(better(self.model, self.parts)),
            "driver": self.driver,
            "parts": self.parts,
            "failed": self.failed,
            "log": self.log,
        }
        return json.dumps(told, indent=2) + "\n"


def trial(settings: Settings, model: ModelSpec, *, as_json: bool) -> int:
    """Try this machine with a model, as the settings have it; return the exit code."""
    if not model.streamed or settings.image_offload == "stock":
        sys.stdout.write(
            f"The trial is of this bot's own engine, which does not draw with {model.name} as "
            "configured; `python -m bot smoke` draws a picture.\n"
        )
        return 1

    def say(line: str) -> None:
        # Whoever reads JSON may watch, too.
        (sys.stderr if as_json else sys.stdout).write(f"{line}\n")
        (sys.stderr if as_json else sys.stdout).flush()

    outcome = run(Wish.of(model, engine_options(settings)), say)
    cards = nvidia.cards(_DRIVER_S)
    outcome.driver = None if isinstance(cards, str) else cards[0].driver
    if as_json:
        sys.stdout.write(outcome.to_json())
    else:
        _conclude(outcome)
    return int(bool(outcome.failed) or not outcome.works)


def run(
    wish: Wish, say: Say, limit_s: float = LIMIT_S, command: Sequence[str] = _COMMAND
) -> Outcome:
    """Try `wish` in a child process, telling of each part when it ends; wait `limit_s` at most.

    `command` starts the child; this process's id is added to it.
    """
    outcome = Outcome(wish.model)
    with tempfile.TemporaryDirectory(prefix="trial-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        options = replace(
            wish.options, model_path=folder, lora_path=folder, work_path=folder / "work"
        )
        with (folder / "log").open("w+", encoding="utf-8", errors="replace") as log:
            child = subprocess.Popen(  # noqa: S603 - our own module and a number
                [*command, str(os.getpid())],
                cwd=_ROOT,
                env=child_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
            )
            _converse(child, replace(wish, options=options), outcome, say, limit_s)
            if outcome.failed:
                log.seek(0)
                outcome.log = log.read()[-_LOG_SHOWN:]
    return outcome


def _converse(
    child: subprocess.Popen[str], wish: Wish, outcome: Outcome, say: Say, limit_s: float
) -> None:
    """Tell the child the wish, and listen until it ends."""
    late = threading.Event()

    def end() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(limit_s, end)
    current = "start"
    with child:
        timer.start()
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            with suppress(BrokenPipeError):  # it has ended, and its exit status says so
                child.stdin.write(wish.to_json() + "\n")
            with suppress(BrokenPipeError):
                child.stdin.close()
            for line in child.stdout:
                current = _take(json.loads(line), outcome, say)
            child.wait()
        finally:
            timer.cancel()
            child.kill()
    if current:
        why = f"it did not end within {limit_s:g} s" if late.is_set() else _ended(child.returncode)
        outcome.failed[current] = why
        say(f"{current}: failed: {why}")


def _take(told: dict[str, Any], outcome: Outcome, say: Say) -> str:
    """Take one line of the child's; return the part that runs now, empty between two."""
    part = str(told["part"])
    if "begins" in told:
        return part
    if "figures" in told:
        outcome.parts[part] = told["figures"]
        if (line := line_of(part, told["figures"])) is not None:
            say(f"{part}: {line}")
    elif "lacks" in told:
        outcome.failed[part] = f"left out, since {told['lacks']} failed"
    else:
        outcome.failed[part] = str(told["error"])
        if part not in DECISIVE:  # that is the verdict
            say(f"{part}: failed: {told['error']}")
    return ""


def _ended(code: int) -> str:
    if code == -getattr(signal, "SIGKILL", 9):
        return "the system killed the process, as it does where main memory runs out"
    if code < 0:
        return f"the process died of signal {-code}"
    return f"the process ended with exit status {code}"


def _conclude(outcome: Outcome) -> None:
    lines = [verdict(outcome.model, outcome.parts, outcome.failed)]
    lines += [f"  better: {advice}" for advice in better(outcome.model, outcome.parts)]
    if outcome.log and not outcome.works and not DECISIVE & outcome.failed.keys():
        lines += ["", "The end of its log:", outcome.log.rstrip()]
    sys.stdout.write("\n".join(lines) + "\n")
