from __future__ import annotations

import pytest

from bot.engine.child.quick_imports import quick_imports
from bot.engine.stream.storage import Storage

with quick_imports():
    import torch

    from bot.engine.tiny import model as tiny

import numpy as np

from bot.engine.stream import cache, pinned
from bot.engine.stream.device import Device
from bot.engine.stream.layout import Precision
from bot.engine.stream.loading import load_text_encoder, load_transformer, load_vae
from bot.engine.stream.prompts import PromptEmbedder
from bot.engine.stream.published import Sources
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.transformer import StreamedDiT
from bot.errors import EngineError
from tests.engine.toy_files import untrained
from tests.stream.files import published_text, write_shards
from tests.stream.kit import rounded

SIZE = {"width": 64, "height": 96}


@pytest.fixture(scope="module")
def pipe():
    return untrained()


@pytest.fixture(scope="module")
def root(pipe, tmp_path_factory):
    root = tmp_path_factory.mktemp("published")
    write_shards(dict(pipe.dit.state_dict()), root / "transformer", "diffusion_pytorch_model")
    text = published_text(pipe.text_encoder, torch.float32)
    write_shards(text, root / "text_encoder", "model")
    write_shards(dict(pipe.vae.state_dict()), root / "vae", "diffusion_pytorch_model", 1)
    return root


def sources(root, part):
    return Sources(sorted((root / part).glob("*.safetensors")))


def predicted(dit):
    prompts = [torch.randn(n, 64, generator=torch.Generator().manual_seed(n)) for n in (9, 5)]
    generation = dit.prepare(prompts, torch.tensor([1000.0, 500.0]), **SIZE)
    latents = torch.randn(1, 16, 12, 8, generator=torch.Generator().manual_seed(1))
    return dit.predict(generation, 1, latents, 4.0)


@pytest.mark.parametrize(
    "precision", [pytest.param(Precision.PLAIN, marks=pytest.mark.slow), Precision.FP8]
)
def test_the_transformer_of_the_files_predicts_as_the_one_in_memory(
    root, tmp_path, precision
) -> None:
    settings = TransformerSettings(dtype=torch.float32, precision=precision)
    want = predicted(StreamedDiT.from_module(untrained().dit, settings))
    origins = []
    for _ in range(2):
        dit, stats = load_transformer(
            sources(root, "transformer"), settings, tmp_path / "cache", lambda *_: None
        )
        origins.append(stats.source)
        assert torch.equal(predicted(dit), want)
    assert origins == ["files", "cache" if precision.storage.quantized else "files"]


def test_blocks_that_went_to_the_card_leave_their_memory_to_those_that_follow(
    root, tmp_path, monkeypatch
) -> None:
    """As on a card, where what stays is a copy of what was read."""
    monkeypatch.setattr(cache, "_READERS", 1)
    monkeypatch.setattr(Device, "taken", lambda _self, flat: flat.clone())
    made: list[int] = []

    def counted(size):
        made.append(size)
        return pinned.page_aligned(size)[:size]

    monkeypatch.setattr(pinned, "own_pages", counted)
    settings = TransformerSettings(dtype=torch.float32, precision=Precision.FP8)
    want = predicted(StreamedDiT.from_module(untrained().dit, settings))
    for source in ("files", "cache"):
        dit, stats = load_transformer(
            sources(root, "transformer"), settings, tmp_path / "cache", lambda *_: None
        )
        assert stats.source == source
        assert torch.equal(predicted(dit), want)
    assert len(dit.weights.resident) == 4
    assert made.count(dit.weights.layouts["block"].size) == 1


def test_text_encoder_and_vae_of_the_files_are_those_in_memory(pipe, root, tmp_path) -> None:
    device = Device()
    encoder, stats = load_text_encoder(
        sources(root, "text_encoder"),
        pipe.text_encoder.config.text_config,
        device,
        torch.float32,
        tmp_path / "cache",
        lambda *_: None,
        storage=Storage.PLAIN,
    )
    assert stats.source == "files"
    (got,) = PromptEmbedder(pipe.tokenizer, encoder, model="tiny").embed(["a cat"])
    unit = pipe.units[7]
    with torch.no_grad():
        (want,) = unit.encode_prompt(pipe, ["a cat"])
    assert ((got - want).norm() / want.norm()).item() < 1e-6

    codec = load_vae(sources(root, "vae"), device, torch.float32, network=tiny.TinyVAE)
    latents = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stock = rounded(pipe.vae.decode(latents))
    (image,) = codec.decode(latents)
    # The loaded one leaves out what films need, and adds in another order.
    apart = np.abs(np.asarray(image).astype(int) - np.asarray(stock))
    assert apart.max() <= 1
    assert np.count_nonzero(apart) <= 3


def test_a_vae_of_another_shape_is_refused_with_the_file_and_the_weight(root) -> None:
    with pytest.raises(EngineError, match=r"lacks the weight") as caught:
        load_vae(sources(root, "text_encoder"), Device(), torch.float32, network=tiny.TinyVAE)
    assert "text_encoder" in caught.value.sentence
