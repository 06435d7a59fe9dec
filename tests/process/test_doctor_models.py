"""What `python -m bot doctor` says where several models are offered."""

from __future__ import annotations

import json
import os
import shutil
from types import SimpleNamespace

import pytest

from bot.config.settings import Settings
from bot.doctor import host
from bot.engine.files.find import COMPILED_FOLDER
from bot.engine.files.precision_kept import KEPT
from tests.process.doctor_kit import StandIn, lora, program, whole_model

QWEN, NEWER, SMALL = "Qwen/Qwen-Image", "Qwen/Qwen-Image-2512", "Qwen/Qwen-Image-2.1"
EDIT = "Qwen/Qwen-Image-Edit-2511"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
SMI = "case \"$1\" in *compute*) ;; *) echo 'NVIDIA GeForce RTX 3060, 580.65, 12288, {free}';; esac"


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    for name in (*Settings.model_fields, "hf_token", "hf_home", "hf_hub_cache", "hf_hub_offline"):
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub-home"))
    monkeypatch.setenv("IMAGE_MODEL_PATH", str(tmp_path / "model"))
    monkeypatch.setenv("IMAGE_MODELS", f"{QWEN}, {SMALL}")
    monkeypatch.chdir(tmp_path)
    program(tmp_path / "bin", "nvidia-smi", SMI.format(free=12000))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)


def test_models_that_edit_want_memory_for_their_vision_tower(look, monkeypatch):
    for offered, sum_of_all in (
        (f"{QWEN}, {NEWER}", "all 2 take up to 58 GiB"),
        (f"{QWEN}, {EDIT}", "all 2 take up to 59 GiB"),
    ):
        monkeypatch.setenv("IMAGE_MODELS", offered)
        assert sum_of_all in look("models kept")[0][1]


def test_each_models_files_have_a_line_that_names_it(look, tmp_path):
    whole_model(tmp_path / "model" / QWEN)
    complete, absent = look("model files")
    assert complete[0] == "ok"
    assert complete[1].startswith(f"{QWEN}: 4 files, ")
    assert absent[0] == "warning"
    assert absent[1].startswith(f"{SMALL} is not in ")
    assert "about 33 GB" in absent[2]
    # A file of its own is damaged: its path says which, and so does the line.
    vae = tmp_path / "model" / QWEN / "vae/diffusion_pytorch_model.safetensors"
    vae.write_bytes(vae.read_bytes()[:-10])
    damaged, _ = look("model files")
    assert damaged[0] == "error"
    assert damaged[1].startswith(f"{QWEN}: {vae} is cut off")
    assert look("licence") == [
        ("ok", f"of {QWEN}: Apache-2.0", ""),
        ("ok", f"of {SMALL}: Qwen Research License (no commercial use)", ""),
    ]
    hashes, none = look("model hashes")
    assert hashes[1].startswith(f"{QWEN}: 0 of 4 compared")
    assert none[1].startswith(f"{SMALL}: 0 of 0 compared")


def test_the_room_for_all_of_them_together_is_wanted(look, monkeypatch):
    for free, level in ((200e9, "ok"), (100e9, "error")):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=int(free))
        )
        ((found, text, step),) = look("model disk")
        assert found == level
        # 57.7 and 33 GB of files, caches of 35 and 21.
        assert "147 GB still to come" in text
        assert f"({QWEN} 93, {SMALL} 54)" in text
    assert "python -m bot download needs 56 GB" in step


def test_what_models_have_in_common_is_wanted_once(look, monkeypatch, tmp_path):
    monkeypatch.setenv("IMAGE_MODELS", EDIT)
    ((_, text, _),) = look("model disk")
    assert f"({QWEN} 93, {EDIT} 65)" in text  # 40.9 GB of files and a cache of 24
    whole_model(tmp_path / "model" / QWEN)
    _, (_, text, step) = look("model files")
    assert text.startswith(f"{EDIT} is not in ")
    assert "about 41 GB in all" in step
    whole = tmp_path / "model" / QWEN / "transformer"
    shutil.copytree(whole, tmp_path / "model" / EDIT / "transformer")
    _, (level, text, _) = look("model files")
    assert (level, f"and text encoder and VAE of {QWEN}, complete in" in text) == ("ok", True)


def test_the_largest_of_them_is_what_a_machine_has_to_have(look, tmp_path, monkeypatch):
    wants = f"{QWEN} wants 4 GiB, {SMALL} wants 4 GiB"
    program(tmp_path / "bin", "nvidia-smi", SMI.format(free=4000))
    _, (level, text, _) = look("graphics card")
    assert (level, wants in text) == ("warning", True)
    program(tmp_path / "bin", "nvidia-smi", SMI.format(free=12000))
    _, (level, text, _) = look("graphics card")
    assert (level, wants in text) == ("ok", True)
    monkeypatch.setenv("IMAGE_VRAM_GB", "3")
    _, (level, _, step) = look("graphics card")
    assert (level, "set IMAGE_MODEL_NAME and IMAGE_MODELS to smaller" in step) == ("error", True)
    # What is pinned is the most that one of them leaves in main memory.
    assert "pins about 11.9 GiB" in look("pinned memory")[0][1]
    monkeypatch.setattr(host, "total_memory", lambda: 20 * 2**30)
    monkeypatch.setattr(host, "_container_limit", lambda: None)
    ((level, text, _),) = look("main memory")
    assert (level, f"32 GB are wanted (for {QWEN})" in text) == ("warning", True)


def test_a_card_is_needed_if_one_of_them_does(look, tmp_path, monkeypatch):
    program(tmp_path / "bin", "nvidia-smi", "exit 9")
    monkeypatch.setenv("IMAGE_MODEL_NAME", "tiny")
    ((level, _, step),) = look("graphics card")
    assert (level, "IMAGE_MODEL_NAME=tiny and IMAGE_MODELS=" in step) == ("error", True)
    assert "not compiled" not in look("compiler")[0][1]
    monkeypatch.setenv("IMAGE_MODELS", "tiny-ink")
    assert look("graphics card")[0][0] == "ok"
    assert look("model disk") == [("ok", "the tiny model is part of the bot", "")]
    assert [text for _, text, _ in look("licence")] == [
        "of tiny: this bot's own", "of tiny-ink: this bot's own",
    ]  # fmt: skip
    monkeypatch.setenv("IMAGE_MODEL_NAME", SDXL)
    assert look("compiler")[0][1] == f"{SDXL} is not compiled"


def test_a_lora_is_right_where_one_of_them_draws_with_it(look, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGE_LORA_PATH", str(tmp_path / "loras"))
    (tmp_path / "loras").mkdir()
    monkeypatch.setenv("IMAGE_MODELS", f"{NEWER}, {SMALL}, {SDXL}")
    lora(tmp_path / "loras/both.safetensors")
    lora(tmp_path / "loras/newest.safetensors", layer="txt_in.in_layer")
    lora(tmp_path / "loras/neither.safetensors", layer="txt_out")
    ((level, text, step),) = look("LoRA files")
    assert (level, "neither.safetensors: " in text) == ("warning", True)
    assert "docs/loras.md" in step
    (tmp_path / "loras/neither.safetensors").unlink()
    where = f"to choose from in {tmp_path / 'loras'}"
    hint = "for a faster quality fast: python -m bot download"
    assert look("LoRA files") == [
        ("ok", f"{QWEN}: 1 {where}; {hint} {QWEN} --lightning", ""),
        ("ok", f"{NEWER}: 1 {where}; {hint} {NEWER} --lightning", ""),
        ("ok", f"{SMALL}: 2 {where}; {hint} {SMALL} --lightning", ""),
        ("ok", f"{SDXL}: not used: the model draws without", ""),
    ]


def test_the_hub_is_asked_for_each_of_them(look, monkeypatch):
    server = StandIn()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.answers[f"/api/models/{QWEN}"] = (200, {})
    (first, said, _), (second, absent, _) = look("model hub")
    assert (first, f"which {QWEN} does not need" in said) == ("ok", True)
    assert (second, absent) == ("warning", f"{server.url} answered 404 for {SMALL}")
    server.close()
    ((level, text, _),) = look("model hub")  # One line for one hub that is silent.
    assert (level, "cannot be reached" in text) == ("warning", True)


def test_what_auto_chose_is_told_of_each_card(look, tmp_path, monkeypatch):
    assert look("precision") == [("ok", "auto: int8 or int8-fast, not tried on a card yet", "")]
    trial = {"int8_ms": 3.0, "int8_fast_ms": 2.0, "int8_fast_error": 0.01, "fp8_error": 0.03}
    kept = tmp_path / "model" / COMPILED_FOLDER / KEPT
    kept.parent.mkdir(parents=True)
    value = {"precision": "int8-fast", "measured": trial}
    kept.write_text(json.dumps({"NVIDIA GeForce RTX 3060; torch 2; 9216x3072": value}))
    chosen = "auto: int8-fast on NVIDIA GeForce RTX 3060, where int8-fast is 1.5 times as fast"
    assert look("precision") == [("ok", f"{chosen} as int8", "")]
    kept.write_text("{")
    ((level, text, _step),) = look("precision")
    assert (level, text.endswith("cannot be read")) == ("warning", True)
    monkeypatch.setenv("IMAGE_PRECISION", "fp8")
    assert look("precision") == [("ok", "IMAGE_PRECISION=fp8", "")]
