from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from bot.engine import weights
from bot.errors import EngineError, EngineErrorKind

FILES = (
    *(f"transformer/diffusion_pytorch_model-{i:05}-of-00009.safetensors" for i in range(1, 10)),
    *(f"text_encoder/model-{i:05}-of-00004.safetensors" for i in range(1, 5)),
    "vae/diffusion_pytorch_model.safetensors",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
)


def safetensors_bytes() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0\0\0\0"


@pytest.fixture
def root(tmp_path) -> Path:
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(safetensors_bytes())
    return tmp_path


def no_progress(stage: str, fraction: float | None = None) -> None:
    """Nobody listens."""


def ensure_fails(root: Path, monkeypatch) -> EngineError:
    # No network here: the real client, told to stay offline.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EngineError) as caught:
        weights.ensure(root, no_progress)
    assert caught.value.kind is EngineErrorKind.LOAD_FAILED
    return caught.value


@pytest.mark.parametrize("below", [".", "Qwen/Qwen-Image"])
def test_a_complete_folder_is_found_in_both_layouts(root, below) -> None:
    if below != ".":
        target = root / "elsewhere" / below
        target.mkdir(parents=True)
        for part in ("transformer", "text_encoder", "vae", "tokenizer"):
            (root / part).rename(target / part)
        root = root / "elsewhere"
    files = weights.ensure(root, no_progress)
    assert len(files.transformer) == 9
    assert len(files.text_encoder) == 4
    assert [path.name for path in files.vae] == ["diffusion_pytorch_model.safetensors"]
    assert files.tokenizer == root / below / "tokenizer"


@pytest.mark.parametrize("name", [FILES[4], FILES[0], FILES[12], FILES[13], FILES[14]])
def test_a_missing_file_is_named(root, monkeypatch, name) -> None:
    (root / name).unlink()
    sentence = ensure_fails(root, monkeypatch).sentence
    assert name in sentence
    assert str(root) not in sentence


@pytest.mark.parametrize("damage", [b"", b"<html>", safetensors_bytes()[:-2]])
def test_a_damaged_file_is_named(root, monkeypatch, damage) -> None:
    (root / FILES[2]).write_bytes(damage)
    error = ensure_fails(root, monkeypatch)
    assert FILES[2] in error.sentence
    assert str(root) not in error.sentence
    assert "damaged" in error.sentence
