"""What `python -m bot doctor` says of LoRA files."""

from __future__ import annotations

import pytest

from tests.process.doctor_kit import lora

CHECK = "LoRA files"


@pytest.fixture(autouse=True)
def _folder(monkeypatch, tmp_path):
    monkeypatch.delenv("IMAGE_LORAS", raising=False)
    monkeypatch.delenv("IMAGE_MODEL_NAME", raising=False)
    monkeypatch.setenv("IMAGE_LORA_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_lora_files_that_are_missing_cut_off_or_not_to_be_named(look, tmp_path, monkeypatch):
    ((level, text, _),) = look(CHECK)
    assert (level, "python -m bot download --lightning" in text) == ("ok", True)
    eight = "Qwen-Image-Lightning-8steps-V2.0-bf16"
    for name in (eight, "ink"):
        lora(tmp_path / f"{name}.safetensors")
    ((level, text, _),) = look(CHECK)
    assert (level, text.startswith("1 to choose from")) == ("ok", True)
    assert text.endswith(f"the quality fast draws with {eight}")
    monkeypatch.setenv("IMAGE_LORAS", "gone, *")
    (tmp_path / "ink.safetensors").write_bytes(b"cut")
    (tmp_path / "a (1).safetensors").touch()
    found = look(CHECK)
    assert {level for level, _, _ in found} == {"warning"}
    assert [part in text for part, (_, text, _) in zip(
        ("names gone.safetensors, which is not in", "a (1).safetensors", "ink.safetensors is cut off"),
        found, strict=True,
    )] == [True] * 3  # fmt: skip


def test_a_lightning_file_of_other_layers(look, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGE_MODEL_NAME", "Qwen/Qwen-Image-2.1")
    four = tmp_path / "Qwen-Image-2.1-Lightning-4steps-V1.0-bf16.safetensors"
    lora(four, layer="transformer_blocks.0.img_mlp.net.2")
    ((level, text, step),) = look(CHECK)
    assert level == "warning"
    assert text.startswith(f"{four} has another model's layers than Qwen/Qwen-Image-2.1")
    assert "python -m bot download Qwen/Qwen-Image-2.1 --lightning" in step
    lora(four, layer="txt_in.in_layer")
    ((level, text, _),) = look(CHECK)
    assert (level, text.endswith(f"the quality fast draws with {four.stem}")) == ("ok", True)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({}, None),
        ({"endings": ("lokr_w1",)}, "is of a kind that is not supported, LoKr;"),
        ({"endings": ("lora_magnitude_vector",)}, "is of a kind that is not supported, DoRA;"),
        ({"layer": "double_blocks.0.img_attn.qkv"}, "is made for FLUX, not for Qwen-Image."),
        ({"layer": "txt_inn"}, "it changes txt_inn, which is not there."),
        ({"lora_adapter_metadata": "{"}, "has lora_adapter_metadata in its header,"),
    ],
)
def test_lora_files_that_are_not_understood(look, tmp_path, monkeypatch, written, said):
    path = tmp_path / "ink.safetensors"
    lora(path, *written.pop("endings", ()), **written)
    ((level, text, step),) = look(CHECK)
    if said is None:
        assert level == "ok"
        return
    assert (level, "docs/loras.md" in step) == ("warning", True)
    assert text.startswith(f"{path}: The LoRA ink ")
    assert said in text
    # A model that takes none has nothing to say about them.
    monkeypatch.setenv("IMAGE_MODEL_NAME", "stabilityai/stable-diffusion-xl-base-1.0")
    ((level, text, _),) = look(CHECK)
    assert (level, text) == ("ok", "not used: the model or IMAGE_OFFLOAD draws without")
