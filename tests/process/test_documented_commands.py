"""What the pages tell people to run, run: each command of the bot, in a folder like a new user's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import bot_commands
from tests.process.kit import ROOT

# Too heavy, or with Discord and a hub at the other end: what runs them instead.
ELSEWHERE = {
    "run": "tests/process/test_run.py",
    "setup": "tests/process/test_setup.py",
    "demo": "tests/process/test_run.py",
    "download": "tests/engine/test_download.py",
    "bench": "tests/bench",
    "doctor --trial": "tests/bench/test_trial.py",
}
QUICK = {"--version", "settings", "backup", "doctor --quick"}
# A checkout's own, and a model's figures: the whole doctor loads PyTorch.
SLOW = {"doctor", "smoke"}


def kind(words: tuple[str, ...]) -> str:
    """Return under which name of the tables above a command falls."""
    named = " ".join(words[:2])
    return named if named in ELSEWHERE or named in QUICK else words[0] if words else ""


def documented(kinds: set[str]) -> list[tuple[str, ...]]:
    return sorted(words for words in bot_commands() if kind(words) in kinds)


def bot(words: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    own = {"PYTHONPATH": str(ROOT), "IMAGE_MODEL_NAME": "tiny", "HF_HUB_OFFLINE": "1"}
    # An address of somebody's machine becomes one of this test's.
    local = [
        word.replace("/mnt/usb", str(folder)).replace("/app/data", str(folder)) for word in words
    ]
    return subprocess.run(
        [sys.executable, "-m", "bot", *local], cwd=folder, env=kept | own,
        capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which a picture was drawn, so that there is something to keep."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copy(ROOT / ".env.example", folder / ".env")
    (folder / "data").mkdir()
    for words in (("demo", "--once", "a red circle", "--data", "data"),):
        done = bot(words, folder)
        assert done.returncode == 0, done.stderr
    return folder


def test_each_is_run_here_or_elsewhere():
    known = ELSEWHERE.keys() | QUICK | SLOW | {""}
    assert {kind(words) for words in bot_commands()} <= known
    for place in ELSEWHERE.values():
        assert (ROOT / place).exists(), place


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.engine
@pytest.mark.parametrize("words", documented(QUICK), ids=" ".join)
def test_it_does_what_its_page_says(words, folder):
    done = bot(words, folder)
    assert "Traceback" not in done.stderr
    # The doctor's errors are about this machine: there is no token.
    assert done.returncode in ({0, 1} if words[0] == "doctor" else {0}), done.stderr
    assert done.stdout


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.engine
@pytest.mark.parametrize("words", documented(SLOW), ids=" ".join)
def test_it_does_so_with_pytorch(words, folder):
    done = bot(words, folder)
    assert "Traceback" not in done.stderr
    assert done.returncode in ({0, 1} if words[0] == "doctor" else {0}), done.stderr
    assert done.stdout
