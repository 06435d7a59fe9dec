"""Room for writing: blocks that leave the device and come back, the head from files and cache."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from bot.engine.child.quick_imports import quick_imports
from bot.engine.stream.storage import Storage

with quick_imports():
    import torch

from bot.engine.files.cache_index import CacheIndex
from bot.engine.models import streamed_writing
from bot.engine.models.streamed_networks import Networks
from bot.engine.models.streamed_writing import write_text
from bot.engine.options import Activity
from bot.engine.protocol import Ending, WriteRequest
from bot.engine.stream.budget import GIB, Work
from bot.engine.stream.decode import PictureCodec
from bot.engine.stream.device import Device
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.encoder_parts import load_writer
from bot.engine.stream.layout import Precision
from bot.engine.stream.loading import load_text_encoder, text_config
from bot.engine.stream.prompts import PromptEmbedder
from bot.engine.stream.published import Sources
from bot.engine.stream.vision import StreamedVisionTower
from bot.engine.stream.writing import StreamedWriter
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled
from tests.stream.edits import painted, small_pipe
from tests.stream.files import published_text, write_shards
from tests.stream.kit import HEIGHT, WIDTH, budget_for, predicted, streamed

QUIET = lambda *_: None  # noqa: E731


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return small_pipe(tmp_path_factory.mktemp("words") / "tokenizer")


class Told:
    """A reporter that keeps what is written, and gives up after `most` tokens."""

    def __init__(self, most=None) -> None:
        self.text, self.tokens, self.most = "", 0, most
        self.stages = []

    def loading(self, *_) -> None:
        pass

    def stage(self, activity) -> None:
        self.stages.append(activity)

    def step(self, *_) -> None:
        raise AssertionError("nothing is drawn")

    preview = step

    def written(self, text, tokens) -> None:
        self.text += text
        self.tokens = tokens
        if tokens == self.most:
            raise GenerationCancelled


def networks_of(words, dit):
    encoder = StreamedTextEncoder.from_module(
        words.text_encoder, Device(), torch.float32, storage=Storage.PLAIN
    )
    encoder.vision = StreamedVisionTower.from_module(
        words.text_encoder, encoder.device, torch.float32, encoder.streamer
    )
    embedder = PromptEmbedder(words.tokenizer, encoder, model="small")
    embedder.writer = StreamedWriter(encoder, words.text_encoder.lm_head.weight)
    codec = PictureCodec(torch.nn.Identity(), Device(), torch.float32)
    return Networks(dit, embedder, codec, "cpu")


def asked(tmp_path, **changes):
    pictures = []
    for seed in range(changes.pop("pictures", 0)):
        pictures.append(tmp_path / f"{seed}.png")
        painted(seed).save(pictures[-1])
    fields = {"system": "You help.", "prompt": "a cat", "max_tokens": 12} | changes
    return WriteRequest(job_id="j", references=tuple(pictures), **fields)


def test_blocks_make_room_as_far_as_they_must_and_come_back(words, tmp_path, monkeypatch) -> None:
    """At four budgets: from streamed layers alone to all of both networks on the device."""
    dit = streamed(Precision.PLAIN, usual=Work(WIDTH, HEIGHT, text_tokens=(11, 5)))
    networks = networks_of(words, dit)
    writer = networks.embedder.writer
    want = write_text(networks, asked(tmp_path), told := Told())
    assert (want.ending, told.tokens) == (Ending.TOKENS, 12)
    blocks = dit.geometry.layers
    picture = predicted(dit)
    there, bring = [], writer.bring

    def noted(room, working):
        bring(room, working)
        layers = sum(map(writer.encoder.streamer.is_resident, writer.encoder.order))
        there.append((layers, len(dit.resident)))

    monkeypatch.setattr(writer, "bring", noted)
    layer = writer.encoder.layout.size
    least, most = (budget_for(dit, count) for count in (0, blocks))
    whole = writer.working_bytes(60, 12) + 4 * layer
    for budget in (least + layer, least + 3 * layer, most, most + whole):
        dit.configure(budget, Precision.PLAIN, compiled=False)
        dit.residency.take_back()
        before = dit.resident
        write_text(networks, asked(tmp_path), again := Told())
        assert again.text == told.text
        assert dit.resident == before
        assert torch.equal(predicted(dit), picture)
    assert there == sorted(there)
    assert there[0][0] < writer.encoder.geometry.layers
    assert there[2][0] == there[3][0] == writer.encoder.geometry.layers
    assert there[2][1] < there[3][1] == blocks


def test_what_has_no_room_even_streamed_is_refused_and_drawing_goes_on(words, tmp_path) -> None:
    dit = streamed(Precision.PLAIN)
    networks = networks_of(words, dit)
    picture = predicted(dit)
    budget = budget_for(dit, 0)
    dit.configure(budget, Precision.PLAIN, compiled=False)
    dit.residency.take_back()
    # Of a question so long that it takes more than the pictures that the budget is for.
    with pytest.raises(EngineError) as caught:
        write_text(networks, asked(tmp_path, prompt="xy " * 4000, max_tokens=2048), Told())
    assert caught.value.kind is EngineErrorKind.OUT_OF_MEMORY
    assert set(caught.value.values) == {"needed", "budget"}
    assert torch.equal(predicted(dit), picture)


@pytest.mark.slow
def test_a_cancel_ends_it_within_a_token_and_all_goes_back(words, tmp_path) -> None:
    dit = streamed(Precision.PLAIN)
    networks = networks_of(words, dit)
    with pytest.raises(GenerationCancelled):
        write_text(networks, asked(tmp_path), told := Told(most=3))
    assert told.tokens == 3
    assert told.stages[-1] is Activity.WRITE
    assert not networks.embedder.encoder.streamer._slots
    assert len(dit.resident) == dit.geometry.layers


def test_pictures_are_seen_and_without_a_tower_refused(words, tmp_path) -> None:
    networks = networks_of(words, streamed(Precision.PLAIN))
    texts = []
    for count in (0, 1, 2):
        write_text(networks, asked(tmp_path, pictures=count), told := Told())
        texts.append(told.text)
    assert len(set(texts)) == 3
    networks.embedder.encoder.vision = None
    with pytest.raises(EngineError, match="1 pictures") as caught:
        write_text(networks, asked(tmp_path, pictures=1), Told())
    assert caught.value.kind is EngineErrorKind.REFUSED


def test_what_is_loaded_to_write_is_watched_and_timed_as_loading(
    words, tmp_path, monkeypatch
) -> None:
    networks, now = networks_of(words, streamed(Precision.PLAIN)), [0.0]
    monkeypatch.setattr(streamed_writing, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    writer, told = networks.embedder.writer, Told()
    networks.embedder.writer = None

    def load(progress, pictures) -> None:
        assert told.stages == [Activity.SWITCH]
        progress("loading the language head", 1.0)
        now[0] += 50.0
        networks.embedder.writer = writer

    networks.load_writer = load
    done = write_text(networks, asked(tmp_path), told)
    assert told.stages == [Activity.SWITCH, Activity.ENCODE, Activity.WRITE]
    assert done.timings == {"load": 50.0, "encode": 0.0, "room": 0.0, "write": 0.0, "back": 0.0}


def test_what_cannot_be_loaded_to_write_is_no_fault_of_what_draws(words, tmp_path) -> None:
    networks = networks_of(words, dit := streamed(Precision.PLAIN))
    picture = predicted(dit)

    def load(progress, pictures) -> None:
        raise EngineError(
            EngineErrorKind.LOAD_FAILED, "no head", sentence="{file} is gone.", values={"file": "x"}
        )

    networks.load_writer = load
    with pytest.raises(EngineError) as caught:
        write_text(networks, asked(tmp_path), Told())
    assert (caught.value.kind, caught.value.detail) == (EngineErrorKind.REFUSED, "no head")
    assert caught.value.spoken() == "x is gone."
    assert torch.equal(predicted(dit), picture)


@pytest.mark.parametrize("tied", [False, True])
def test_the_head_comes_from_published_files_and_from_the_cache_that_outlives_them(
    words, tmp_path, tied
) -> None:
    state = published_text(words.text_encoder)
    want = state["model.embed_tokens.weight" if tied else "lm_head.weight"]
    if tied:
        del state["lm_head.weight"]
    files = write_shards(state, tmp_path / "text_encoder", "model")
    config = words.text_encoder.config.text_config

    def loaded(sources, cache: Path | None, storage) -> torch.Tensor:
        encoder, _ = load_text_encoder(
            sources, config, Device(), torch.bfloat16, cache, QUIET, storage=storage
        )
        before = encoder.host_bytes
        writer = load_writer(encoder, sources, cache, QUIET)
        assert encoder.host_bytes - before == writer.head_bytes == want.nbytes
        host = encoder.streamer._homes["head", 0].host.tensor
        return host.view(torch.bfloat16).view(want.shape)

    same = partial(torch.equal, want)
    assert same(loaded(Sources(files), None, Storage.PLAIN))
    assert same(loaded(Sources(files), tmp_path / "cache", Storage.INT8))
    for file in files:
        file.unlink()
    index = CacheIndex.load(tmp_path / "cache", "text encoder")
    assert same(loaded(Sources([], index), tmp_path / "cache", Storage.INT8))


def test_at_full_size_six_gibibytes_are_enough_to_write_by_streaming() -> None:
    """By the plan's own figures; what a card takes was not measured."""
    encoder = StreamedTextEncoder(
        text_config(), Device("cpu"), torch.bfloat16, storage=Storage.INT8
    )
    writer = StreamedWriter.__new__(StreamedWriter)
    writer.encoder, writer.words = encoder, 152_064
    writer.head_bytes, writer._dtype = 152_064 * 3584 * 2, torch.bfloat16
    working = writer.working_bytes(1200, 400)
    whole = working + encoder.geometry.layers * encoder.layout.size
    # Beside them: the transformer's outer layers and scales, the VAE, the slack of the plan.
    assert working < 3 * GIB
    assert 7 * GIB < whole < 9 * GIB
