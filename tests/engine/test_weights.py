from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from bot.engine.files import find
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
        find.ensure(root, no_progress)
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
    files = find.ensure(root, no_progress)
    assert len(files.transformer) == 9
    assert len(files.text_encoder) == 4
    assert [path.name for path in files.vae] == ["diffusion_pytorch_model.safetensors"]
    assert files.tokenizer == root / below / "tokenizer"


OTHER = "Qwen/Qwen-Image-2512"


def test_a_folder_of_one_model_is_no_other_models(root, monkeypatch) -> None:
    assert find.find(root)[0].folder == root
    files, missing = find.find(root, OTHER)
    assert files is None
    assert missing[0].is_relative_to(root / OTHER)
    assert find.cache_home(root, OTHER) == root / OTHER
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EngineError):
        find.ensure(root, no_progress, repository=OTHER)
    # The way to say whose they are.
    (root / ".model").write_text(f"{OTHER}\n")
    assert find.find(root, OTHER)[0].folder == root
    assert find.find(root)[0] is None


@pytest.mark.parametrize(
    ("folder", "files", "model"),
    [
        (".", (), None),
        (".", ("transformer/a.safetensors",), "Qwen/Qwen-Image"),
        (".", (".download/a",), "Qwen/Qwen-Image"),
        (OTHER, ("transformer/a.safetensors",), OTHER),
        (f"models--{OTHER.replace('/', '--')}/snapshots/abc", (), OTHER),
    ],
)
def test_a_folder_without_a_marker_is_judged_by_name_and_content(
    tmp_path, folder, files, model
) -> None:
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name in files:
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert find.holder(tmp_path / folder) == model


@pytest.mark.parametrize(
    ("model", "files"),
    [
        (
            "Qwen/Qwen-Image-2.1",
            {"transformer/diffusion_pytorch_model-00001-of-*.safetensors", "processor/vocab.json"},
        ),
        (
            "stabilityai/stable-diffusion-xl-base-1.0",
            {
                "unet/diffusion_pytorch_model.fp16.safetensors",
                "text_encoder_2/model.fp16.safetensors",
                "tokenizer_2/merges.txt",
            },
        ),
    ],
)
def test_what_another_model_lacks_is_named(root, monkeypatch, model, files) -> None:
    _, missing = find.find(root, model)
    assert {find.known_as(path) for path in missing} >= files
    assert all(path.is_relative_to(root / model) for path in missing)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EngineError) as caught:
        find.ensure(root, no_progress, repository=model)
    assert find.known_as(missing[0]) in caught.value.sentence


@pytest.mark.parametrize(
    ("files", "model"),
    [
        ({"unet/a": ""}, "stabilityai/stable-diffusion-xl-base-1.0"),
        (
            {"transformer/config.json": '{"_class_name": "QwenImage21Transformer2DModel"}'},
            "Qwen/Qwen-Image-2.1",
        ),
        (
            {"transformer/config.json": '{"_class_name": "QwenImageTransformer2DModel"}'},
            "Qwen/Qwen-Image",
        ),
    ],
)
def test_models_that_look_different_are_told_apart(tmp_path, files, model) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    assert find.holder(tmp_path) == model
    assert find.home(tmp_path, model) == tmp_path


def test_the_cache_of_a_nested_first_model_stays_where_it_is(tmp_path) -> None:
    (tmp_path / find.FIRST).mkdir(parents=True)
    assert find.cache_home(tmp_path, find.FIRST) == tmp_path / find.FIRST
    (tmp_path / "fp8-cache").mkdir()
    assert find.cache_home(tmp_path, find.FIRST) == tmp_path
    assert find.cache_home(tmp_path, OTHER) == tmp_path / OTHER
    # Unless it is another model's, whose files lie there: two models never share a cache.
    (tmp_path / find.MARKER).write_text(OTHER)
    assert find.cache_home(tmp_path, OTHER) == tmp_path
    assert find.cache_home(tmp_path, find.FIRST) == tmp_path / find.FIRST


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
