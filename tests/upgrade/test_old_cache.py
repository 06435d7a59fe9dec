"""The old FP8 cache is used as it lies there, and the networks say what they said."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    import torch
    from transformers import Qwen2_5_VLTextConfig

from safetensors import safe_open
from safetensors.torch import load_file

from bot.engine.files.cache_index import CacheIndex
from bot.engine.files.find import CACHE_FOLDERS, cache_home
from bot.engine.files.header import read_header
from bot.engine.stream.device import Device
from bot.engine.stream.layout import Precision
from bot.engine.stream.loading import load_text_encoder, load_transformer
from bot.engine.stream.published import Sources
from bot.engine.stream.settings import TransformerSettings

REPOSITORY = "Qwen/Qwen-Image"


@dataclass
class OldModel:
    """A model's folder, and what was noted of it."""

    home: Path
    cache: Path
    config: Qwen2_5_VLTextConfig
    noted: dict[str, torch.Tensor]

    def sources(self, part: str) -> Sources:
        index = CacheIndex.load(self.cache, part.replace("_", " "))
        return Sources(sorted((self.home / part).glob("*.safetensors")), index)

    def state(self) -> dict[str, tuple[int, int, str]]:
        """Each file of the cache: inode, time of change, hash."""
        return {
            path.name: (
                path.stat().st_ino,
                path.stat().st_mtime_ns,
                hashlib.sha256(path.read_bytes()).hexdigest(),
            )
            for path in self.cache.glob("*.safetensors*")
        }


@pytest.fixture
def model(old, unpacked) -> OldModel:
    torch.set_num_threads(1)
    shutil.copytree(unpacked / "models", old.root / "models", dirs_exist_ok=True)
    home = cache_home(old.settings().image_model_path, REPOSITORY)
    config = Qwen2_5_VLTextConfig(**old.reference("text_config.json"))
    noted = load_file(old.root / "expected" / "reference.safetensors")
    return OldModel(home, home / CACHE_FOLDERS["fp8"], config, noted)


def close(out: torch.Tensor, noted: torch.Tensor) -> bool:
    """Whether it is the same but for the order in which another machine adds up."""
    return out.dtype == noted.dtype and bool(
        (out.double() - noted.double()).norm() <= 0.01 * noted.double().norm()
    )


def test_the_transformers_cache_is_read_and_predicts_as_then(model):
    before = model.state()
    assert len(before) == 2
    settings = TransformerSettings(dtype=torch.bfloat16, precision=Precision.FP8)
    dit, stats = load_transformer(
        model.sources("transformer"), settings, model.cache, lambda *_: None
    )
    assert (stats.source, stats.written_s, stats.notice) == ("cache", 0, None)
    assert model.state() == before
    noted = model.noted
    prompts = [noted["prompt"], noted["negative"]]
    ready = dit.prepare(prompts, noted["timesteps"], width=64, height=96)
    with torch.no_grad():
        assert close(dit.predict(ready, 1, noted["latents"], 4.0), noted["prediction"])


def test_the_text_encoders_cache_is_read_and_encodes_as_then(model):
    before = model.state()
    encoder, stats = load_text_encoder(
        model.sources("text_encoder"),
        model.config,
        Device(),
        torch.bfloat16,
        model.cache,
        lambda *_: None,
    )
    # What the older one left to the published files is in it from now on; the rest is read.
    assert (stats.source, stats.items, stats.notice) == ("cache", 3, None)
    assert model.state() == before
    with torch.no_grad():
        assert close(encoder.encode([model.noted["tokens"]])[0], model.noted["embedding"])


def test_the_old_cache_is_taken_over_once_and_then_needs_no_published_file(model, caplog):
    """It lies there untouched: an older bot could go back to it, too."""
    before = model.state()
    settings = TransformerSettings(dtype=torch.bfloat16, precision=Precision.FP8)
    said = []
    for there in (True, True, False):
        if not there:
            for part in ("transformer", "text_encoder"):
                shutil.rmtree(model.home / part)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            _, one = load_transformer(
                model.sources("transformer"), settings, model.cache, lambda *_: None
            )
            encoder, two = load_text_encoder(
                model.sources("text_encoder"), model.config, Device(), torch.bfloat16,
                model.cache, lambda *_: None,
            )  # fmt: skip
        said.append(caplog.text.count("is of an earlier version, and is used as it is"))
        assert (one.source, two.source) == ("cache", "cache")
        with torch.no_grad():
            assert close(encoder.encode([model.noted["tokens"]])[0], model.noted["embedding"])
    assert said == [2, 0, 0]
    assert model.state() == before


def test_what_this_code_makes_of_the_files_is_what_is_in_the_cache_of_then(model, tmp_path):
    """Byte by byte."""
    settings = TransformerSettings(dtype=torch.bfloat16, precision=Precision.FP8)
    load_transformer(model.sources("transformer"), settings, tmp_path / "new", lambda *_: None)
    load_text_encoder(
        model.sources("text_encoder"), model.config, Device(), torch.bfloat16,
        tmp_path / "new", lambda *_: None,
    )  # fmt: skip
    for path in model.cache.glob("*.safetensors"):
        part = path.name.rsplit("-", 1)[0]
        new = CacheIndex.load(tmp_path / "new", part)
        data = (tmp_path / "new" / f"{part}.weights").read_bytes()
        with safe_open(path, framework="pt") as old:
            sums = json.loads(old.metadata()["crc32"])
            header = read_header(path).entries.keys() - {"__metadata__"}
            names = [name for name in header if not name.endswith(".pad")]
            for name in names:
                key, short = name.rsplit("/", 1)
                raw = old.get_tensor(name).reshape(-1).view(torch.uint8).numpy().tobytes()
                assert data[new.items[key].tensors[short].offset :][: len(raw)] == raw
        assert {key: new.items[key].crc32 for key in sums} == sums
