from __future__ import annotations

from types import SimpleNamespace

import pytest

from bot.engine.child.quick_imports import quick_imports
from bot.engine.stream.storage import Storage

with quick_imports():
    import torch


from diffsynth.pipelines.qwen_image import QwenImageUnit_PromptEmbedder

from bot.engine.stream.device import Device
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.loading import load_text_encoder
from bot.engine.stream.prompts import PromptEmbedder, PromptMemory
from bot.engine.stream.published import Sources
from bot.engine.stream.quantize import quantize_rows
from bot.engine.stream.streamer import Streamer
from bot.engine.stream.text_layout import QWEN3
from tests.engine.small_models import TEXT
from tests.engine.toy_files import untrained
from tests.stream.files import published_text, write_shards

PROMPTS = ["a cat on a mat, in oil", "", "Ein Café: “猫咪咖啡” — neon"]


@pytest.fixture(scope="module")
def pipe():
    return untrained()


def stock(pipe, prompts):
    with torch.no_grad():
        return QwenImageUnit_PromptEmbedder().encode_prompt(pipe, prompts)


def relative(got, want):
    return ((got.float() - want.float()).norm() / want.float().norm()).item()


def streamed(pipe, *, storage=Storage.PLAIN, resident=False, dtype=torch.float32):
    return StreamedTextEncoder.from_module(
        pipe.text_encoder, Device(), dtype, storage=storage, resident=resident
    )


def embedder(pipe, encoder, **options):
    return PromptEmbedder(pipe.tokenizer, encoder, model="tiny", **options)


@pytest.mark.slow
def test_embeddings_are_those_of_diffsynth(pipe) -> None:
    got = embedder(pipe, streamed(pipe)).embed(PROMPTS)
    for one, prompt in zip(got, PROMPTS, strict=True):
        (want,) = stock(pipe, [prompt])
        assert one.shape == want.shape
        assert relative(one, want) < 1e-6
    for one, want in zip(got, stock(pipe, PROMPTS), strict=True):  # DiffSynth's own padded batch
        assert relative(one, want) < 1e-6


def test_in_bfloat16_it_differs_from_diffsynth_by_no_more_than_rounding(pipe) -> None:
    exact = stock(pipe, PROMPTS)
    pipe = untrained()
    pipe.text_encoder.to(torch.bfloat16)
    got = embedder(pipe, streamed(pipe, dtype=torch.bfloat16)).embed(PROMPTS)
    for one, theirs, true in zip(got, stock(pipe, PROMPTS), exact, strict=True):
        assert one.dtype == torch.bfloat16
        assert relative(one, theirs) < 0.02
        assert relative(one, true) < 1.2 * relative(theirs, true) + 1e-3


def test_fp8_differs_only_by_the_rounding_of_weights(pipe) -> None:
    encoder = streamed(pipe, storage=Storage.FP8)
    got = embedder(pipe, encoder).embed(PROMPTS)
    # Random weights; each is off by up to 6 %, 2.6 % in the mean, over two layers of 7 products.
    errors = [relative(g, w) for g, w in zip(got, stock(pipe, PROMPTS), strict=True)]
    assert 0.02 < max(errors) < 0.15, errors

    rounded = untrained()
    for layer in rounded.text_encoder.model.language_model.layers:
        for piece in encoder.layout.pieces:
            weight = layer.get_submodule(piece.name).weight
            quantized, scale = quantize_rows(weight)
            weight.copy_(quantized.float() * scale[:, None])
    for one, want in zip(got, stock(rounded, PROMPTS), strict=True):
        assert relative(one, want) < 1e-6


@pytest.mark.parametrize("storage", list(Storage))
def test_streamed_and_resident_layers_give_the_same_bits(pipe, storage) -> None:
    ids = [torch.arange(n) % 200 for n in (50, 7)]
    one, two = (streamed(pipe, storage=storage, resident=resident) for resident in (False, True))
    assert one.host_bytes > 0
    assert two.host_bytes == 0
    for _ in range(2):  # from the second pass on, slots hold something else at its beginning
        for a, b in zip(one.encode(ids), two.encode(ids), strict=True):
            assert torch.equal(a, b)
    assert one.passes[-1].streamed_bytes == one.host_bytes
    assert two.passes[-1].streamed_bytes == 0


def test_a_prompt_does_not_depend_on_those_beside_it(pipe) -> None:
    encoder = streamed(pipe, storage=Storage.FP8)
    alone = [embedder(pipe, encoder).embed([prompt])[0] for prompt in PROMPTS]
    for a, b in zip(alone, embedder(pipe, encoder).embed(PROMPTS), strict=True):
        assert torch.equal(a, b)


def test_each_layer_is_visited_once_for_all_prompts(pipe, monkeypatch) -> None:
    encoder = streamed(pipe)
    visits = []
    visit = encoder.streamer.visit
    monkeypatch.setattr(encoder.streamer, "visit", lambda key: visits.append(key) or visit(key))
    embedder(pipe, encoder).embed(PROMPTS)
    assert visits == encoder.order


def test_what_comes_next_is_copied_ahead(pipe) -> None:
    encoder = streamed(pipe)
    assert encoder.encode([torch.arange(9)])
    assert not encoder.streamer._slots  # its own are given back
    streamer = Streamer(Device())
    encoder = StreamedTextEncoder.from_module(
        pipe.text_encoder, Device(), torch.float32, storage=Storage.PLAIN, streamer=streamer
    )
    for i in range(3):
        streamer.add(("block", i), torch.full((64,), i, dtype=torch.uint8), resident=i == 0)
    order = [("block", i) for i in range(3)]
    want = encoder.encode([torch.arange(9)])
    assert torch.equal(encoder.encode([torch.arange(9)], then=order)[0], want[0])
    assert {slot.key for slot in streamer._slots} == {("block", 1), ("block", 2)}


class Counting:
    def __init__(self, encoder):
        self.encoder, self.prompts = encoder, []

    def __call__(self, input_ids, attention_mask, **options):
        self.prompts.append(len(input_ids))
        return self.encoder(input_ids, attention_mask, **options)


def test_a_reroll_and_the_empty_negative_prompt_run_no_encoder(pipe) -> None:
    encoder = Counting(streamed(pipe))
    prompts = embedder(pipe, encoder)
    first = prompts.embed(["a cat", ""])
    assert encoder.prompts == [2]
    again = prompts.embed(["a cat", ""])
    assert encoder.prompts == [2]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    prompts.embed(["a dog", ""])
    assert encoder.prompts == [2, 1]
    prompts.embed(["a cow", "a cow"])
    assert encoder.prompts == [2, 1, 1]


def test_the_memory_keeps_models_apart_and_shares_between_embedders(pipe) -> None:
    memory = PromptMemory()
    plain, fp8 = Counting(streamed(pipe)), Counting(streamed(pipe, storage=Storage.FP8))
    one = PromptEmbedder(pipe.tokenizer, plain, model="plain", memory=memory)
    two = PromptEmbedder(pipe.tokenizer, fp8, model="fp8", memory=memory)
    assert not torch.equal(one.embed(["x"])[0], two.embed(["x"])[0])
    later = PromptEmbedder(pipe.tokenizer, plain, model="plain", memory=memory)
    later.embed(["x"])
    assert (plain.prompts, fp8.prompts) == ([1], [1])


def test_the_memory_is_bounded_by_bytes_and_forgets_the_oldest() -> None:
    memory = PromptMemory(limit=1000)
    for name in "abc":
        memory.put("m", name, torch.zeros(100))  # 400 bytes
    assert (memory.get("m", "a"), memory.bytes, len(memory)) == (None, 800, 2)
    assert memory.get("m", "b") is not None
    memory.put("m", "d", torch.zeros(100))
    assert memory.get("m", "c") is None  # "b" was used since
    assert memory.get("m", "b") is not None
    memory.put("m", "b", torch.zeros(10))
    assert memory.bytes == 440
    memory.put("m", "huge", torch.zeros(1000))
    assert (memory.get("m", "huge"), memory.bytes) == (None, 440)
    memory.clear()
    assert (memory.bytes, len(memory)) == (0, 0)


def test_what_is_remembered_holds_no_larger_tensor(pipe) -> None:
    for one in embedder(pipe, streamed(pipe)).embed(["a much longer prompt than the other", ""]):
        assert one.untyped_storage().nbytes() == one.nbytes


def test_from_files_neither_the_vision_tower_nor_the_head_is_read(pipe, tmp_path) -> None:
    files = write_shards(published_text(pipe.text_encoder), tmp_path / "text_encoder", "model")
    config = pipe.text_encoder.config.text_config
    sources = Sources(files)
    encoder, _ = load_text_encoder(
        sources, config, Device(), torch.float32, None, lambda *_: None, storage=Storage.PLAIN
    )
    layers = 12 * config.num_hidden_layers  # 7 weights, 3 biases, 2 norms
    assert len(sources.read) == layers + 1  # the last norm; of the table, rows are looked up
    assert not [name for name in sources.read if "visual" in name or "lm_head" in name]
    assert [name for name in sources.names if "visual" in name]
    assert "lm_head.weight" in sources.names

    rounded = untrained()
    rounded.text_encoder.to(torch.bfloat16).float()
    got = embedder(pipe, encoder).embed(PROMPTS)
    # `to(bfloat16)` also rounds the rotary frequencies of theirs; the right ones go back.
    rounded.text_encoder.model.language_model.rotary_emb = (
        pipe.text_encoder.model.language_model.rotary_emb
    )
    for one, want in zip(got, stock(rounded, PROMPTS), strict=True):
        assert relative(one, want) < 1e-6
    assert encoder._table.place.dtype == torch.bfloat16  # as it lies in the file
    assert (encoder.working_bytes(100), encoder.small_bytes) > (0, 0)


def test_the_full_size_encoder_has_the_widths_the_layout_expects() -> None:
    from diffsynth.core.vram.initialization import skip_model_initialization
    from diffsynth.models.qwen_image_text_encoder import QwenImageTextEncoder

    from bot.engine.stream.text_layout import TextGeometry, text_layout

    with skip_model_initialization():
        encoder = QwenImageTextEncoder()
    model = encoder.model.language_model
    layout = text_layout(TextGeometry.of(encoder.config.text_config), torch.bfloat16, Storage.FP8)
    state = model.layers[0].state_dict()
    assert sorted(layout.inputs) == sorted(state)
    packed = layout.pack(state, torch.device("meta"))
    assert len(model.layers) == 28
    assert packed.flat.numel() == sum(t.numel() for t in state.values() if t.ndim == 2)
    assert packed.flat.numel() == 233_046_016
    for piece in layout.pieces:
        assert state[f"{piece.name}.weight"].shape == (piece.rows, piece.columns)


@pytest.fixture
def qwen3(monkeypatch):
    """DiffSynth's encoder of Qwen-Image-2.1, small and random."""
    from diffsynth.models.qwen_image_21_text_encoder import QwenImage21TextEncoder

    monkeypatch.setattr(QwenImage21TextEncoder, "QWEN_IMAGE_21_TEXT_ENCODER_CONFIG", TEXT)
    torch.manual_seed(3)
    return QwenImage21TextEncoder().eval().requires_grad_(False)


@pytest.mark.parametrize(("storage", "bound"), [(Storage.PLAIN, 1e-6), (Storage.FP8, 0.1)])
def test_qwen3_answers_before_its_last_norm(qwen3, storage, bound):
    """Whose layers have no biases, and norms of queries and keys instead."""
    encoder = StreamedTextEncoder.from_module(
        SimpleNamespace(model=qwen3.model.model, config=qwen3.config),
        Device(),
        torch.float32,
        storage=storage,
        family=QWEN3,
    )
    ids = [torch.arange(7), torch.arange(40, 60)]
    for one, got in zip(ids, encoder.encode(ids), strict=True):
        want = qwen3(input_ids=one[None], attention_mask=torch.ones(1, len(one)))[0]
        assert got.shape == want.shape
        assert relative(got, want) < bound
    small = {name: t for name, t in encoder._small[0].items() if not name.endswith(".scale")}
    scales = 4 * sum(p.rows for p in encoder.layout.pieces) * encoder.layout.quantized
    assert sum(t.nbytes for t in small.values()) + scales == encoder.layout.small_size
