"""`python -m bot doctor --trial`: the toy on the CPU by the code of the full size, in real processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bot.catalogue.models import MODELS
from bot.config.settings import Settings
from bot.engine.options import EngineOptions
from bot.engine.stream.device import Device
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.layout import Precision
from bot.engine.stream.storage import Storage
from bot.lab.trial.family import TRIED
from bot.lab.trial.projection import Pace, picture_seconds, step_seconds
from bot.lab.trial.run import Outcome, run
from bot.lab.trial.whole import Whole
from bot.lab.trial.wish import Wish
from bot.lab.trial.words import better, verdict
from tests.engine.toy_files import untrained
from tests.process.kit import ROOT
from tests.stream.kit import streamed
from tests.stream.test_plan_21 import resident

GIB = 2**30
TOY = MODELS["tiny"]
NEWEST_GB = 0.1613
QWEN, NEWEST = MODELS["Qwen/Qwen-Image"], MODELS["Qwen/Qwen-Image-2.1"]


def wish(folder, **options) -> Wish:
    return Wish.of(TOY, EngineOptions(folder, confinement="auto", **options))


def doctor(folder, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder without `.env`, with no setting but these."""
    names = {name.upper() for name in Settings.model_fields}
    kept = {name: value for name, value in os.environ.items() if name.upper() not in names}
    return subprocess.run(
        [sys.executable, "-m", "bot", "doctor", "--trial", *arguments],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def outcome(tmp_path_factory) -> tuple[Outcome, list[str]]:
    """A trial whose budget has no room for all blocks, where there is no compiler."""
    folder, lines = tmp_path_factory.mktemp("trial"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder))
        patch.delenv("CC", raising=False)
        found = run(wish(folder, vram_gb=0.1627), lines.append)
    assert not list(folder.iterdir())
    return found, lines


@pytest.mark.slow
def test_every_part_tells_its_figures(outcome):
    found, lines = outcome
    assert found.failed == {}
    assert found.works
    told = [line.partition(":")[0] for line in lines]
    parts = ["card", "plan", "blocks", "pinning", "compiling", "steps", "decoding", "seconds"]
    assert told == parts
    assert [name for name in found.parts if name not in {"confinement", "libraries"}] == parts
    assert found.parts["blocks"]["precision"] == "fp8"
    assert lines[2].endswith(" s; fp8")


@pytest.mark.slow
def test_what_has_no_room_streams(outcome):
    plan, steps = outcome[0].parts["plan"], outcome[0].parts["steps"]
    assert plan["blocks"] == 6
    assert 0 < plan["resident"] < 6
    streamed = (6 - plan["resident"]) * plan["block_bytes"]
    assert plan["streamed_bytes_a_step"] == streamed
    assert outcome[0].parts["pinning"]["wanted_bytes"] == streamed
    assert steps["room_for"] == steps["resident"] <= plan["resident"]
    assert outcome[0].parts["card"]["bound"] == "IMAGE_VRAM_GB"


@pytest.mark.slow
def test_the_seconds_are_the_written_formula_of_the_blocks_timed(outcome):
    parts = outcome[0].parts
    steps, found = parts["steps"], parts["seconds"]
    pace = Pace(steps["resident_block_s"], steps["streamed_block_s"], steps["around_the_blocks_s"])
    step_s = step_seconds(6, 6 - steps["resident"], pace)
    assert found["step_s"] == step_s > 0
    assert found["standard_s"] == picture_seconds(10, step_s, found["once_s"])
    assert found["fast_s"] == picture_seconds(6, step_s, found["once_s"])
    assert found["once_s"] > parts["decoding"]["seconds"] > 0


@pytest.mark.slow
def test_it_says_why_blocks_are_not_compiled_and_what_would_help(outcome):
    found, lines = outcome
    assert found.parts["compiling"]["why_not"] == "a C compiler is missing"
    assert "compiling: blocks are not compiled: a C compiler is missing" in lines
    advice = "\n".join(better("tiny", found.parts))
    assert "compiled blocks (a C compiler is missing)" in advice
    assert "a higher IMAGE_VRAM_GB" in advice


def test_it_plans_as_the_engine_does(tmp_path):
    """For blocks that are there, and for the text encoder, whose layers are counted unseen."""
    whole, real = Whole.of(EngineOptions(tmp_path), toy=True), streamed(Precision.FP8)
    real.execution.settings = replace(real.settings, usual=whole.usual)
    resident = set()
    for budget in range(173_700_000, 176_500_000, 100_000):
        real.residency.adapt(GIB, 0)
        real.execution.settings = replace(real.settings, budget=budget)
        share = whole.share(budget, compiled=False)
        assert share.resident == len(real.plan(whole.usual).resident)
        resident.add(share.resident)
    assert resident == set(range(7))
    encoder = StreamedTextEncoder.from_module(
        untrained().text_encoder, Device(), torch.float32, storage=Storage.FP8
    )
    assert encoder.geometry.layers * encoder.layout.small_size == encoder.small_bytes


def test_steps_are_as_long_as_the_arithmetic_or_the_copies():
    assert step_seconds(60, 20, Pace(0.02, 0.021)) == pytest.approx(1.2)
    assert step_seconds(60, 50, Pace(0.02, 0.05)) == pytest.approx(2.5)
    assert step_seconds(60, 0, Pace(0.02, 9.0, 0.1)) == pytest.approx(1.3)


@pytest.mark.thorough
@pytest.mark.slow
def test_a_budget_without_room_is_the_answer(tmp_path):
    lines: list[str] = []
    found = run(wish(tmp_path, vram_gb=0.01, compile=False), lines.append)
    assert not found.works
    assert list(found.failed) == [
        "plan", "blocks", "pinning", "compiling", "steps", "decoding", "seconds"
    ]  # fmt: skip
    assert found.failed["seconds"] == "left out, since steps failed"
    assert "GiB of GPU memory" in verdict("tiny", found.parts, found.failed)
    assert [line.partition(":")[0] for line in lines] == ["card"]


DIES = """
import os, signal, sys
sys.stdin.readline()
print('{"part": "confinement", "begins": true}')
print('{"part": "confinement", "figures": {}}')
print('{"part": "blocks", "begins": true}', flush=True)
print("the last words", file=sys.stderr, flush=True)
"""


@pytest.mark.parametrize(
    ("end", "limit_s", "why"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", 60.0, "main memory runs out"),
        ("os._exit(7)", 60.0, "exit status 7"),
        ("signal.pause()", 0.5, "did not end within 0.5 s"),
    ],
)
def test_a_process_that_ends_in_a_part_is_told_with_it(tmp_path, end, limit_s, why):
    lines: list[str] = []
    command = (sys.executable, "-c", DIES + end)
    found = run(wish(tmp_path), lines.append, limit_s, command)
    assert list(found.failed) == ["blocks"]
    assert why in found.failed["blocks"]
    assert lines == [f"blocks: failed: {found.failed['blocks']}"]
    assert "the last words" in found.log


def test_a_process_that_never_begins_is_a_failure_too(tmp_path):
    found = run(wish(tmp_path), print, command=(sys.executable, "-c", "import no_such_module"))
    assert list(found.failed) == ["start"]
    assert "no_such_module" in found.log


@pytest.mark.thorough
@pytest.mark.slow
def test_the_process_goes_with_whoever_listens(tmp_path):
    children = []

    def interrupt(line: str) -> None:
        children.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(wish(tmp_path, compile=False), interrupt)
    assert len(children) == 1
    mine = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "args="],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "bot.lab.trial.child" not in mine.stdout


@pytest.mark.slow
def test_without_a_card_it_is_one_sentence(tmp_path):
    done = doctor(tmp_path, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1
    assert done.stdout.startswith("This model needs an NVIDIA GPU")
    assert done.stdout.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
@pytest.mark.slow
def test_programs_read_json_and_people_may_watch(tmp_path):
    done = doctor(tmp_path, "--json", IMAGE_MODEL_NAME="tiny", IMAGE_COMPILE="false")
    told = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert told["works"] is True
    assert told["verdict"].startswith("This machine draws with tiny: about")
    assert told["parts"]["plan"]["resident"] == 6
    assert "steps: a block takes" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
@pytest.mark.slow
def test_other_engines_are_not_tried_and_one_of_several_models_may_be(tmp_path):
    sdxl = "stabilityai/stable-diffusion-xl-base-1.0"
    done = doctor(tmp_path, "--model", "xl base", IMAGE_MODEL_NAME="tiny")
    assert done.returncode == 1
    assert f"does not draw with {sdxl} as" in done.stdout
    assert "python -m bot smoke" in done.stdout
    offered = {"IMAGE_MODEL_NAME": sdxl, "IMAGE_MODELS": "tiny"}
    assert f"does not draw with {sdxl} as" in doctor(tmp_path, **offered).stdout
    other = doctor(tmp_path, "--model", "tiny", IMAGE_COMPILE="false", **offered)
    assert other.returncode == 0, other.stderr
    assert "This machine draws with tiny: about" in other.stdout
    stock = doctor(tmp_path, "--model", "2.1", IMAGE_OFFLOAD="stock")
    assert "does not draw with Qwen/Qwen-Image-2.1 as" in stock.stdout
    unknown = doctor(tmp_path, "--model", "nobody")
    assert (unknown.returncode, "There is no model 'nobody'" in unknown.stderr) == (1, True)


@pytest.fixture(scope="module")
def newest(tmp_path_factory) -> tuple[Outcome, list[str]]:
    """The trial of Qwen-Image-2.1 at toy size, with a budget of fewer than all blocks."""
    folder, lines = tmp_path_factory.mktemp("newest"), []
    options = EngineOptions(folder, confinement="auto", compile=False, vram_gb=NEWEST_GB)
    found = run(replace(Wish.of(NEWEST, options), toy=True, lightning_bytes=4000), lines.append)
    return found, lines


@pytest.mark.slow
def test_the_newest_is_tried_with_one_branch_and_its_own_lightning_file(newest):
    found, lines = newest
    assert found.failed == {}, found.log
    plan, steps, seconds = (found.parts[part] for part in ("plan", "steps", "seconds"))
    assert plan["blocks"] == 6
    assert 0 < plan["resident"] < 6
    assert steps["resident_block_s"] == steps["resident_block_without_guidance_s"] > 0
    pace = Pace(steps["resident_block_s"], steps["streamed_block_s"], steps["around_the_blocks_s"])
    step_s = step_seconds(6, 6 - steps["resident"], pace)
    assert seconds["step_s"] == step_s
    assert seconds["standard_s"] == picture_seconds(40, step_s, seconds["once_s"])
    assert seconds["fast_s"] == picture_seconds(20, step_s, seconds["once_s"])
    # The blocks that stream come once more for the prompt, which goes through all of them.
    bus_s = plan["streamed_bytes_a_step"] / found.parts["pinning"]["pinned_bytes_a_second"]
    assert seconds["once_s"] > found.parts["decoding"]["seconds"]
    assert seconds["once_s"] >= bus_s
    assert [line.partition(":")[0] for line in lines][-2:] == ["decoding", "seconds"]
    told = verdict(NEWEST.name, found.parts, found.failed)
    assert re.search(
        r"for `fast` of 20 steps, or with a Lightning file [\d.]+ s \(4 steps\)\.", told
    )
    assert "download Qwen/Qwen-Image-2.1 --lightning" in "\n".join(better(NEWEST.name, found.parts))


@pytest.mark.thorough
@pytest.mark.slow
def test_without_room_for_the_lightning_file_the_rest_counts(tmp_path):
    options = EngineOptions(tmp_path, confinement="auto", compile=False, vram_gb=NEWEST_GB)
    found = run(replace(Wish.of(NEWEST, options), toy=True), print)
    assert found.failed == {}, found.log
    assert found.works
    assert "Lightning" not in verdict(NEWEST.name, found.parts, found.failed)


@pytest.mark.slow
def test_at_full_size_it_plans_as_the_engine_does(tmp_path):
    """The blocks of test_plan_21.py, which builds the engine without the trial."""
    options = EngineOptions(tmp_path, precision="fp8")
    whole = Whole.of(options, toy=False, family=NEWEST.family, guided=False)
    assert (whole.geometry.layers, whole.usual.text_tokens) == (32, (128,))
    assert whole.modulation_bytes == 0
    assert whole.reads_prompts
    for gib in (4, 6, 8):
        share = whole.share(gib * GIB, compiled=True)
        assert share.resident == resident(gib, whole.usual)
        assert share.streamed_bytes == (32 - share.resident) * whole.block_bytes


def test_a_model_of_one_quality_has_no_fast():
    turbo = MODELS["Qwen/Qwen-Image-2.1-Turbo"]
    wished = Wish.of(turbo, EngineOptions(Path("unused")))
    assert (wished.fast, wished.lightning, wished.guided) == (None, (), False)
    assert Wish.from_json(wished.to_json()) == wished
    times = {"standard_s": 2.0, "standard_steps": 8}
    told = verdict(turbo.name, {"seconds": times}, {})
    assert "about 2.0 s for a picture of 8 steps. Projected" in told


def test_every_family_that_is_streamed_can_be_tried():
    assert set(TRIED) == {spec.family for spec in MODELS.values() if spec.streamed}


SOUND = {
    "card": {"bound": "what is free", "foreign_bytes": GIB // 2, "torch": "2.14.1"},
    "plan": {
        "blocks": 60,
        "resident": 40,
        "streamed_bytes_a_step": 4 * 10**9,
        "pin_wanted_bytes": 4 * GIB,
        "pageable_bytes": 13 * GIB,
        "main_memory_bytes": 32 * GIB,
    },
    "pinning": {"refused": False, "lacks_main_memory": False},
    "compiling": {"wanted": True, "compiled": True, "why_not": None},
    "steps": {
        "streamed_bytes_a_step": 4 * 10**9,
        "resident": 40,
        "room_for": 40,
        "resident_block_s": 0.02,
        "streamed_block_s": 0.021,
    },
    "seconds": {"standard_s": 50.0, "standard_steps": 40, "fast_s": 26.0, "fast_steps": 20},
}


@pytest.mark.parametrize(
    ("part", "changes", "expected"),
    [
        ("card", {"foreign_bytes": 2 * GIB}, "close other programs"),
        ("card", {"bound": "IMAGE_VRAM_GB"}, "a higher IMAGE_VRAM_GB"),
        ("card", {"torch": "2.9.1+cu128"}, "another PyTorch"),
        ("plan", {"main_memory_bytes": 16 * GIB}, "more main memory"),
        ("pinning", {"lacks_main_memory": True}, "more main memory"),
        ("pinning", {"refused": True}, "memory= in .wslconfig"),
        ("compiling", {"compiled": False, "why_not": "Triton is missing"}, "(Triton is missing)"),
        ("compiling", {"wanted": False, "compiled": False}, "IMAGE_COMPILE=true"),
        ("steps", {"room_for": 33}, "room for 33 of the 40"),
        ("steps", {"streamed_block_s": 0.1}, "a faster slot"),
        ("seconds", {"lightning_8_s": 9.0, "lightning_4_s": 5.0}, "--lightning"),
    ],
)
def test_what_would_be_better(part, changes, expected):
    assert list(better(QWEN.name, SOUND)) == []
    advice = list(better(QWEN.name, {**SOUND, part: {**SOUND[part], **changes}}))
    assert len(advice) == 1
    assert expected in advice[0]
