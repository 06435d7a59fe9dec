"""Seeds and what fuzzing once found: every reader treats each of them rightly, on any machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

FOUND = Path(__file__).parent / "found"
SECONDS = int(os.environ.get("FUZZ_SECONDS", "10"))


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
@pytest.mark.timeout(60 + 2 * SECONDS)
@pytest.mark.parametrize("name", TARGETS)
def test_fuzzing_finds_nothing(name):
    pytest.importorskip("atheris", reason="atheris is made for Linux on x86-64 alone")
    command = [sys.executable, "-m", "tests.fuzz.run", name, "--seconds", str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    tried = next(line for line in done.stderr.splitlines() if line.startswith("Done "))
    assert int(tried.split()[1]) > 1000, tried
