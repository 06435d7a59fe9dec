"""The disk fails at each call in turn: all or nothing, and the next try works (see drive.py)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.faults.scenarios import SCENARIOS
from tests.faults.weights import WEIGHTS

HERE = Path(__file__).parent
COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD"),
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler"),
]
# Faults that each meets at the least: fewer mean that the shim does not see the calls any more.
LEAST = {
    "KeepBatch": 300,
    "KeepInput": 80,
    "KeepForm": 30,
    "KeepState": 60,
    "Commit": 100,
    "Accept": 130,
    "Delete": 80,
    "KeepText": 60,
    "Read": 200,
    "Copy": 400,
    "BackUp": 400,
    "Start": 600,
    "Convert": 600,
    "Mend": 150,
    "Load": 300,
    "Drop": 400,
}
QUICK = {"KeepInput"}
# Their parts, packing and reading, are met by others: for `make thorough`.
LONGEST = {"Convert", "Drop", "Mend", "Load"}


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> Path:
    assert COMPILER is not None
    made = tmp_path_factory.mktemp("shim") / "shim.so"
    command = [COMPILER, "-shared", "-fPIC", "-O1", "-o", made, HERE / "shim.c", "-ldl"]
    subprocess.run(command, check=True, timeout=50)
    return made


@pytest.fixture
def folder():
    """A folder in memory where there is one: thousands of syncs take long on a real disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as made:
        yield Path(made).resolve()


def _marks(name: str) -> list[pytest.MarkDecorator]:
    if name in QUICK:
        return []
    return [pytest.mark.slow, *([pytest.mark.thorough] if name in LONGEST else [])]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=_marks(name)) for name in (*SCENARIOS, *WEIGHTS)],
)
def test_each_call_fails_in_turn(shim, folder, name):
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.drive", folder, name],
        cwd=HERE.parents[1],
        env={**os.environ, "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not found["problems"], "\n".join(found["problems"])
    assert found["faults"] >= LEAST[name]
