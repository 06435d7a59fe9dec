"""The vision tower loaded: of published files, of the cache that outlives them, for a model."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest

from bot.engine.child.quick_imports import quick_imports
from bot.engine.stream.storage import Storage

with quick_imports():
    import torch

from bot.engine.card_budget import GIB, Bound, CardBudget
from bot.engine.files.cache_index import CacheIndex
from bot.engine.models.shelf import NetworkShelf
from bot.engine.models.streamed_card import USUAL_TEXT_TOKENS, StreamedFamily, assemble
from bot.engine.options import EngineOptions
from bot.engine.stream.device import Device
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.loading import load_text_encoder, load_vae
from bot.engine.stream.prompts import PromptEmbedder, read_qwen_image
from bot.engine.stream.published import Sources
from bot.engine.stream.text_layout import QWEN25
from bot.engine.stream.transformer_kind import DOUBLE
from bot.engine.stream.vision_loading import load_vision
from bot.engine.stream.vision_picture import vision_picture
from bot.engine.tiny.model import TinyVAE
from bot.errors import EngineError
from tests.engine.toy_files import untrained
from tests.stream.edits import painted, small_pipe, stock_edit
from tests.stream.files import published_text, write_shards
from tests.stream.kit import error

QUIET = lambda *_: None  # noqa: E731
MODEL = "Qwen/Qwen-Image"
PROMPTS = ["make the sky purple", " "]


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return small_pipe(tmp_path_factory.mktemp("words") / "tokenizer")


def embedded(pipe, encoder):
    made = PromptEmbedder(pipe.tokenizer, encoder, model="small")
    return made.embed(PROMPTS, pictures=[vision_picture(painted(0))])


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.fixture(scope="module")
def published(pipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "text_encoder"
    return write_shards(published_text(pipe.text_encoder), folder, "model")


def loaded(pipe, sources, cache, storage, told=QUIET):
    config = pipe.text_encoder.config
    encoder, _ = load_text_encoder(
        sources, config.text_config, Device(), torch.bfloat16, cache, QUIET, storage=storage
    )
    stats = load_vision(encoder, sources, config.vision_config, cache, told)
    return encoder, stats


@pytest.mark.slow
def test_the_tower_comes_from_published_files_and_from_a_cache_that_outlives_them(
    pipe, published, tmp_path
) -> None:
    plain, stats = loaded(pipe, Sources(published), None, Storage.PLAIN)
    assert stats.source == "files"
    want = stock_edit(pipe, PROMPTS, [painted(0)])
    got = embedded(pipe, plain)
    assert max(map(error, got, want)) < 0.05  # all of it in bfloat16
    first, _ = loaded(pipe, Sources(published), tmp_path, Storage.FP8)
    index = CacheIndex.load(tmp_path, "text encoder")
    stages = []
    again, stats = loaded(
        pipe,
        Sources([], index),
        tmp_path,
        Storage.FP8,
        lambda stage, share: stages.append((stage, share)),
    )
    assert (stats.source, stats.packed) == ("cache", 0)
    assert {stage for stage, _ in stages} == {"loading the vision tower"}
    assert stages[-1][1] == 1.0
    one, two = (embedded(pipe, each) for each in (first, again))
    assert same(one, two)
    assert max(map(error, one, want)) < 0.15
    held = sum(t.nbytes for t in published_text(pipe.text_encoder.model.visual).values())
    vision = again.streamer._homes[("vision", 0)].host.tensor.numel() * again.vision.blocks
    assert vision + again.vision.outer_bytes == held


def test_files_without_a_tower_say_which_weight_they_lack(pipe, tmp_path) -> None:
    state = published_text(pipe.text_encoder)
    blind = {name: t for name, t in state.items() if not name.startswith("visual.")}
    short = {name: t for name, t in state.items() if name != "visual.blocks.2.mlp.up_proj.bias"}
    for number, (state, lacks) in enumerate(
        ((blind, "visual.patch_embed.proj.weight"), (short, "visual.blocks.2.mlp.up_proj.bias"))
    ):
        sources = Sources(write_shards(state, tmp_path / str(number), "model"))
        with pytest.raises(EngineError, match="lacks the weight") as caught:
            loaded(pipe, sources, None, Storage.PLAIN)
        assert lacks in str(caught.value)


@pytest.mark.slow
def test_a_model_that_edits_adds_the_tower_to_the_encoder_that_is_there(
    pipe, tmp_path, monkeypatch
) -> None:
    """Of another model on the same shelf, which looks at no pictures and loads no tower."""
    toy, home = untrained(), tmp_path / MODEL
    for network, folder in ((toy.dit, "transformer"), (toy.vae, "vae")):
        state = {name: each.bfloat16() for name, each in network.state_dict().items()}
        write_shards(state, home / folder, "diffusion_pytorch_model", 1 if folder == "vae" else 2)
    vae = home / "vae"
    (vae / "diffusion_pytorch_model-00001-of-00001.safetensors").rename(
        vae / "diffusion_pytorch_model.safetensors"
    )
    (vae / "diffusion_pytorch_model.safetensors.index.json").unlink()
    write_shards(published_text(pipe.text_encoder), home / "text_encoder", "model", 2)
    pipe.tokenizer.save_pretrained(str(home / "tokenizer"))
    for name in ("vocab.json", "merges.txt"):
        (home / "tokenizer" / name).write_text(json.dumps({}))
    config = pipe.text_encoder.config
    plain = StreamedFamily(
        DOUBLE,
        QWEN25,
        lambda: config.text_config,
        partial(load_vae, network=TinyVAE),
        lambda _: pipe.tokenizer,
        read_qwen_image,
    )
    editing = replace(plain, vision=lambda: config.vision_config, pictures=3)
    options, shelf = EngineOptions(tmp_path, compile=False), NetworkShelf(None)
    budget = CardBudget(4 * GIB, Bound.CEILING, 0)

    asked, working_bytes = [], StreamedTextEncoder.working_bytes

    def planned(encoder, *counts):
        asked.append(counts)
        return working_bytes(encoder, *counts)

    monkeypatch.setattr(StreamedTextEncoder, "working_bytes", planned)

    def assembled(family):
        return assemble(MODEL, options, QUIET, shelf, family, lambda: budget, "cpu").embedder

    first = assembled(plain)
    assert first.encoder.vision is None
    before = first.embed(PROMPTS)
    assert assembled(editing) is first
    tower = first.encoder.vision
    assert tower is not None
    got = first.embed(PROMPTS, pictures=[vision_picture(painted(0))])
    assert max(map(error, got, stock_edit(pipe, PROMPTS, [painted(0)]))) < 0.15
    assert assembled(editing).encoder.vision is tower
    first.memory.clear()
    assert same(first.embed(PROMPTS), before)
    assert asked == [(USUAL_TEXT_TOKENS, 0)]
    shelf = NetworkShelf(None)
    for path in (home / "text_encoder").iterdir():
        path.unlink()  # The cache has all of it.
    assert same(assembled(editing).embed(PROMPTS, pictures=[vision_picture(painted(0))]), got)
    assert asked[1:] == [(USUAL_TEXT_TOKENS, 3)]  # the transformer leaves room for them
