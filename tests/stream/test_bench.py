from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest

from bot.errors import BotError
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
    ours = {
        name: figures["variants"][f"{name} 0.5 GiB eager"]
        for name in ("fp8", "fp8-fast", "int8", "int8-fast")
    }
    for variant in ours.values():
        assert variant["identical_to_resident"]
        assert 0 < variant["error"] < 0.1
        assert variant["rounds_s"][0] > 0
    assert 0 < figures["variants"]["DiffSynth bf16 eager"]["error_float32"] < 0.05
    # A network as narrow as this one says less than the real widths; the order holds here too.
    assert ours["int8"]["excess"] < 0.45 * ours["fp8"]["excess"]
    assert ours["int8-fast"]["excess"] < ours["fp8"]["excess"]
    for found in figures["depth"].values():
        last = found["3"]
        excess = {n: (last[n] ** 2 - last["bf16"] ** 2) ** 0.5 for n in ours}
        assert excess["int8"] < 0.45 * excess["fp8"]
        assert excess["int8-fast"] < 0.65 * excess["fp8"] < excess["fp8-fast"]
    assert len(figures["matrices"]) == 8
    for product in figures["matrices"].values():
        assert product["int8 error"] < product["fp8 row error"]
    assert figures["cancel_s"] > 0
    assert "DiffSynth bf16 eager" in capsys.readouterr().out


def test_it_measures_the_other_kind_of_transformer(tmp_path):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    target = tmp_path / "figures.json"
    options = (
        "--model Qwen/Qwen-Image-2.1 --device cpu --small --size 128x96 --large 160x160 "
        "--budgets 0.5 --rounds 1 --layers 2 --steps 1 --schedule 3 --no-compile"
    )
    assert run(parser.parse_args([*options.split(), "--json", str(target)])) == 0
    figures = json.loads(target.read_text(encoding="utf-8"))
    assert "depth" not in figures
    for name, variant in figures["variants"].items():
        assert 0 < variant["error_float32"] < 0.05, name
        assert name.startswith("DiffSynth") or variant["identical_to_resident"]
    assert figures["cancel_s"] > 0


@pytest.mark.parametrize("model", ["Qwen/Qwen-Image", "Qwen/Qwen-Image-Edit-2511"])
def test_it_measures_a_step_with_references(tmp_path, model):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    target = tmp_path / "figures.json"
    options = (
        f"--model {model} --references 96x64,128x128 --device cpu --small --size 128x96 --layers 2 "
        "--budgets 0.5 --precisions int8 --rounds 1 --steps 1 --schedule 3 --no-compile "
        f"--phases exact,alone,rounds,cancel --json {target}"
    )
    assert run(parser.parse_args(options.split())) == 0
    figures = json.loads(target.read_text(encoding="utf-8"))
    assert len(figures["variants"]) == 3
    for name, variant in figures["variants"].items():
        # Theirs in float32 is of the same edit: an error as small as without references.
        assert 0 < variant["error_float32"] < 0.05, name
        assert name.startswith("DiffSynth") or variant["identical_to_resident"]
    assert figures["cancel_s"] > 0


def test_references_of_a_model_that_takes_none_are_refused():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = "--model Qwen/Qwen-Image-2.1 --device cpu --small --references 96x64"
    with pytest.raises(BotError, match="leave out --references"):
        run(parser.parse_args(options.split()))


def test_its_command_line_needs_no_torch():
    code = "import sys, bot.lab.step.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=50).returncode == 0
