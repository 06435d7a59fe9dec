from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest

from bot.lab.step.options import add_arguments, run

pytestmark = pytest.mark.slow


def test_the_benchmark_runs_at_toy_size(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    target = tmp_path / "figures.json"
    options = (
        "--device cpu --small --size 128x96 --large 160x160 --budgets 0.5 --rounds 1 --layers 3"
    )
    more = f"--steps 1 --schedule 3 --no-compile --json {target}"
    assert run(parser.parse_args([*options.split(), *more.split()])) == 0
    figures = json.loads(target.read_text(encoding="utf-8"))
    ours = figures["variants"]["fp8 0.5 GiB eager"]
    assert ours["identical_to_resident"]
    assert 0 < ours["error"] < 0.1
    assert ours["rounds_s"][0] > 0
    assert figures["cancel_s"] > 0
    assert "DiffSynth bf16 eager" in capsys.readouterr().out


def test_its_command_line_needs_no_torch():
    code = "import sys, bot.lab.step.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=50).returncode == 0
