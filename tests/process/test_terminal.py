"""The command line at a real terminal: help, Ctrl+C, and outputs that nobody reads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bot.cli.main import main
from tests.process.doctor_kit import StandIn
from tests.process.kit import PATIENCE_S
from tests.process.terminal_kit import bare_environment, terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no ptys")

COMMANDS = ("run", "demo", "backup", "doctor", "download", "smoke", "bench", "settings")


def test_without_a_command_it_helps(capsys):
    assert main([]) == 0
    said, errors = capsys.readouterr()
    assert not errors
    assert all(f"\n    {name} " in said for name in COMMANDS)
    assert "python -m bot demo" in said


def test_every_option_says_what_it_is_for(capsys):
    for name in ("demo", "backup", "doctor", "download", "smoke"):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        lines = capsys.readouterr().out.splitlines()
        for line, after in zip(lines, [*lines[1:], ""], strict=True):
            if line.startswith("  -"):
                # What is too long for the first column has its words in the next line.
                assert "  " in line.strip() or after.startswith(" " * 20), f"{name}: {line}"


@pytest.mark.slow
async def test_ctrl_c_ends_the_doctor_with_130(tmp_path):
    hub = StandIn()
    hub.silent.set()
    try:
        async with terminal(tmp_path, "doctor", HF_ENDPOINT=hub.url) as at:
            await at.until("LoRA files")  # The hub comes next, and is silent.
            at.press(b"\x03")
            assert await at.end() == 130
            assert "Traceback" not in at.shown
    finally:
        hub.close()


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["smoke"], "importing libraries"),
        (["demo", "--once", "a moon", "--data", "here"], 'Drawing "a moon"'),
    ],
    ids=["smoke", "demo"],
)
async def test_ctrl_c_while_it_draws_ends_it_with_130(tmp_path, command, words):
    async with terminal(tmp_path, *command, IMAGE_MODEL_NAME="tiny") as at:
        await at.until(words)
        at.press(b"\x03")
        assert await at.end() == 130
        assert "Traceback" not in at.shown
        assert "Stopped before" not in at.shown


async def test_ctrl_c_while_it_imports_is_no_traceback(tmp_path):
    # Whatever is imported first says so, and never waits where a signal might come just before.
    (tmp_path / "argparse.py").write_text("print('importing', flush=True)\nwhile True: pass\n")
    async with terminal(
        tmp_path, PYTHONPATH=f"{tmp_path}:{bare_environment()['PYTHONPATH']}"
    ) as at:
        await at.until("importing")
        at.press(b"\x03")
        assert await at.end() == 130
        assert "Traceback" not in at.shown


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["settings"],
        ["doctor", "--quick"],
        ["doctor", "--quick", "--json"],
        ["download"],
        ["bench", "simulate", "--help"],
        pytest.param(["smoke"], marks=[pytest.mark.slow, pytest.mark.engine]),
        pytest.param(["demo", "--once", "a moon"], marks=[pytest.mark.slow, pytest.mark.engine]),
    ],
    ids=" ".join,
)
def test_an_output_that_nobody_reads_is_no_traceback(tmp_path, command):
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bot", *command],
            cwd=tmp_path,
            env=bare_environment(IMAGE_MODEL_NAME="tiny"),
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
    finally:
        os.close(write)
    assert done.stderr == ""
    assert done.returncode == 141


async def test_a_broken_pipe_of_another_kind_is_a_failure(monkeypatch):
    """Only standard output's reader may go without a word."""

    def broken(**_: object) -> None:
        raise BrokenPipeError("the engine's")

    monkeypatch.setattr("bot.doctor.run.examine", broken)
    with pytest.raises(BrokenPipeError, match="the engine's"):
        main(["doctor"])
