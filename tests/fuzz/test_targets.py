"""Seeds and what fuzzing once found: every reader treats each of them rightly, on any machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.every_target import TARGETS

FOUND = Path(__file__).parent / "found"
SECONDS = int(os.environ.get("FUZZ_SECONDS", "5"))


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_what_was_once_found(name):
    target = TARGETS[name]
    for data in target.seeds():
        target.check(data)
    for path in sorted((FOUND / name).glob("*")):
        target.check(path.read_bytes())


def test_what_was_found_belongs_to_a_target():
    assert {path.name for path in FOUND.iterdir()} <= set(TARGETS)


@pytest.mark.slow
@pytest.mark.timeout(300 + 2 * SECONDS)
@pytest.mark.parametrize("name", TARGETS)
def test_fuzzing_finds_nothing(name):
    pytest.importorskip("atheris", reason="atheris is made for Linux on x86-64 alone")
    missing = TARGETS[name].least - tried(name, "--seconds", SECONDS)
    # On a machine with other work the rest takes longer.
    assert missing <= 0 or tried(name, "--runs", missing) >= missing


def tried(name: str, bound: str, value: int) -> int:
    """Fuzz a target until a bound; return the number of inputs that were tried."""
    command = [sys.executable, "-m", "tests.fuzz.run", name, bound, str(value)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    line = next(line for line in done.stderr.splitlines() if line.startswith("Done "))
    return int(line.split()[1])
