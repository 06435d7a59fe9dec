"""Prompts with pictures: states against DiffSynth's own unit, with small random networks."""

from __future__ import annotations

import gzip
import os
import weakref
from pathlib import Path

import pytest
from PIL import Image

from bot.catalogue.models import MODELS
from bot.engine.child.quick_imports import quick_imports
from bot.engine.stream.storage import Storage

with quick_imports():
    import torch

from bot.engine.child.references import vae_size, vision_size
from bot.engine.stream import prompts_edit
from bot.engine.stream.device import Device
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.offload import OffloadableEmbedder
from bot.engine.stream.prompts import PromptEmbedder, PromptMemory
from bot.engine.stream.prompts_edit import read_edit
from bot.engine.stream.vision import StreamedVisionTower
from bot.engine.stream.vision_kind import VISION25
from bot.engine.stream.vision_loading import vision_config
from bot.engine.stream.vision_picture import SeenPicture, vision_picture
from tests.stream.edits import painted, small_pipe, stock_edit
from tests.stream.kit import error

QUIET = lambda *_: None  # noqa: E731
PROMPTS = ["make the sky purple", " "]
VOCABULARY = os.environ.get("QWEN_TOKENIZER", "")


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return small_pipe(tmp_path_factory.mktemp("words") / "tokenizer")


def encoder_of(pipe, storage=Storage.PLAIN, dtype=torch.float32):
    made = StreamedTextEncoder.from_module(pipe.text_encoder, Device(), dtype, storage=storage)
    made.vision = StreamedVisionTower.from_module(
        pipe.text_encoder, made.device, dtype, made.streamer
    )
    return made


def embedder(pipe, encoder=None, **options):
    encoder = encoder_of(pipe) if encoder is None else encoder
    return PromptEmbedder(pipe.tokenizer, encoder, model="small", **options)


def cut(*seeds):
    return [vision_picture(painted(seed)) for seed in seeds]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3])
def test_states_are_those_of_diffsynth(pipe, count) -> None:
    got = embedder(pipe).embed(PROMPTS, pictures=cut(*range(count)))
    want = stock_edit(pipe, PROMPTS, [painted(seed) for seed in range(count)])
    for one, theirs in zip(got, want, strict=True):
        assert one.shape == theirs.shape
        assert error(one, theirs) < 1e-5


def test_both_branches_depend_on_each_picture_and_on_their_order(pipe) -> None:
    made = embedder(pipe)
    answers = [made.embed(PROMPTS, pictures=cut(*seeds)) for seeds in ((0, 3), (3, 0), (0, 6))]
    assert [len(one) for one in answers[0]] == [len(one) for one in answers[1]]
    for branch in range(len(PROMPTS)):
        ends = [answer[branch][-1] for answer in answers]
        assert error(ends[1], ends[0]) > 1e-3
        assert error(ends[2], ends[0]) > 1e-3


@pytest.mark.parametrize("storage", [Storage.FP8, Storage.INT8])
def test_eight_bits_are_near(pipe, storage) -> None:
    got = embedder(pipe, encoder_of(pipe, storage)).embed(PROMPTS, pictures=cut(0, 1))
    want = stock_edit(pipe, PROMPTS, [painted(0), painted(1)])
    assert 1e-4 < max(map(error, got, want)) < 0.15


def test_text_alone_is_what_it_was_without_a_tower(pipe) -> None:
    plain = StreamedTextEncoder.from_module(
        pipe.text_encoder, Device(), torch.float32, storage=Storage.FP8
    )
    want = embedder(pipe, plain).embed(PROMPTS)
    made = embedder(pipe, encoder_of(pipe, Storage.FP8))
    assert same(made.embed(PROMPTS), want)
    made.embed(PROMPTS, pictures=cut(0))
    made.memory.clear()
    assert same(made.embed(PROMPTS), want)
    with pytest.raises(ValueError, match="no vision tower"):
        embedder(pipe, plain).embed(PROMPTS, pictures=cut(0))


def test_a_picture_depends_on_none_beside_it_and_each_block_is_visited_once(
    pipe, monkeypatch
) -> None:
    encoder = encoder_of(pipe)
    tower, visits = encoder.vision, []
    alone = [tower.encode([picture])[0] for picture in cut(0, 1, 2)]
    assert not encoder.streamer._slots  # given back
    whole = pipe.text_encoder.model.visual
    for picture, states in zip(cut(0, 1, 2), alone, strict=True):
        grid = torch.tensor([[1, 2 * picture.rows, 2 * picture.columns]])
        assert error(states, whole(picture.patches, grid_thw=grid).pooler_output) < 1e-6
    visit = encoder.streamer.visit
    monkeypatch.setattr(encoder.streamer, "visit", lambda key: visits.append(key) or visit(key))
    assert same(tower.encode(cut(0, 1, 2)), alone)
    assert visits == tower.order
    visits.clear()
    made = embedder(pipe, encoder)
    made.embed(PROMPTS, pictures=cut(1, 2, 1))
    assert visits == [*tower.order, *encoder.order]
    visits.clear()
    made.embed([*PROMPTS, "a third"], pictures=cut(2, 1))  # another prompt, known pictures
    assert visits == encoder.order


def test_the_memory_knows_prompts_by_the_content_of_their_pictures(pipe, monkeypatch) -> None:
    made = embedder(pipe)
    passes = []
    encode = made.encoder.encode
    monkeypatch.setattr(
        made.encoder, "encode", lambda ids, *rest: passes.append(len(ids)) or encode(ids, *rest)
    )
    first = made.embed(PROMPTS, pictures=cut(0))
    assert same(made.embed(PROMPTS, pictures=cut(0)), first)  # read from a file again
    assert passes == [2]
    others = [made.embed(PROMPTS, pictures=cut(*seeds)) for seeds in ((3,), (0, 3), (3, 0))]
    made.embed(PROMPTS)
    assert passes == [2] * 5
    assert not any(torch.equal(first[0], other[0]) for other in others)
    small = embedder(pipe, memory=PromptMemory(limit=1))
    assert same(small.embed(PROMPTS, pictures=cut(0)), first)


@pytest.mark.parametrize("shapes", [((3, 5),), ((4, 4), (9, 2)), ((2, 7), (7, 2), (5, 5))])
def test_positions_are_those_of_get_rope_index(pipe, shapes) -> None:
    seen = [SeenPicture(high, wide, torch.zeros(high * wide, 256)) for high, wide in shapes]
    given = []

    class Looking:
        @staticmethod
        def encode(ids, _then, *rest):
            given.append((ids, *rest))
            return ids

    read_edit(pipe.tokenizer, Looking, PROMPTS, seen)
    for ids, places, inserted in zip(*given[0], strict=True):
        kinds = ids == pipe.text_encoder.config.image_token_id
        assert kinds.nonzero()[:, 0].tolist() == inserted.rows.tolist()
        grid = torch.tensor([[1, 2 * high, 2 * wide] for high, wide in shapes])
        want, _ = pipe.text_encoder.model.get_rope_index(
            ids[None], mm_token_type_ids=kinds[None].int(), image_grid_thw=grid
        )
        assert torch.equal(places, want[:, 0])


def test_a_prompt_that_holds_the_mark_of_a_picture_moves_none(pipe) -> None:
    (got,) = embedder(pipe).embed(["a <|image_pad|> b"], pictures=cut(0))
    (want,) = embedder(pipe).embed(["a b"], pictures=cut(0))
    assert len(got) == len(want) + 2  # it, and a space
    before = len(want) - len("a b") - len("<|im_end|>") - len("\nassistant\n")
    assert error(got[:before], want[:before]) < 1e-6


def test_a_prompt_without_end_loses_its_own_end_only(pipe, monkeypatch) -> None:
    largest = max(max(vae_size(size)) for size in ((36_000, 1000), (1000, 36_000)))
    assert prompts_edit._LONGEST + largest // 16 // 2 <= 4096  # positions of the transformer
    monkeypatch.setattr(prompts_edit, "_LONGEST", 700)
    made = embedder(pipe)
    long, longer = made.embed(["a" * 600, "a" * 9000], pictures=cut(0))
    assert len(long) == 700
    assert torch.equal(long, longer)
    short, end = made.embed(["b" * 100, "b" * 10 + "a" * 90], pictures=cut(0))
    assert len(short) == len(end) < 700


def test_it_leaves_the_card_and_returns_as_it_was(pipe) -> None:
    made = embedder(pipe, encoder_of(pipe, Storage.FP8))
    plain = embedder(
        pipe,
        StreamedTextEncoder.from_module(
            pipe.text_encoder, Device(), torch.float32, storage=Storage.FP8
        ),
    )
    want = made.embed(PROMPTS, pictures=cut(0))
    waiting = OffloadableEmbedder(made)
    tower = sum(t.nbytes for t in pipe.text_encoder.model.visual.state_dict().values())
    assert waiting.bytes - OffloadableEmbedder(plain).bytes == tower
    assert waiting.to_copy == OffloadableEmbedder(plain).to_copy  # none of it is on the card
    waiting.offload()
    waiting.onload(None)
    made.memory.clear()
    assert same(made.embed(PROMPTS, pictures=cut(0)), want)
    gone = weakref.ref(made.encoder.streamer)
    del made, waiting
    assert gone() is None  # at once, without the garbage collector


def test_room_is_left_for_pictures(pipe) -> None:
    encoder = encoder_of(pipe)
    alone = encoder.working_bytes(100)
    assert encoder.working_bytes(100, 1) > alone
    assert encoder.working_bytes(100, 3) > encoder.working_bytes(100, 1)
    ratios = [1 + step / 50 for step in range(35 * 50)]
    sizes = [(round(1000 * ratio), 1000) for ratio in ratios]
    sides = [tuple(round(side / 28) for side in vision_size(size)) for size in sizes]
    assert 230 < max(wide * high for wide, high in sides) <= VISION25.tokens


def test_the_full_size_tower_has_the_widths_of_the_published_one() -> None:
    from bot.engine.stream.streamer import Streamer

    tower = StreamedVisionTower(vision_config(), Device(), torch.bfloat16, Streamer(Device()))
    assert (tower.blocks, tower.width) == (32, 1280)
    assert tower._tower.fullatt_block_indexes == [7, 15, 23, 31]
    outer = [layer.state_dict().values() for layer in tower._layers.values()]
    numbers = sum(tensor.numel() for part in outer for tensor in part)
    assert tower.block_bytes // 2 * 32 + numbers == 676_550_144
    # In bfloat16 it waits in main memory, which the catalogue says of the models that edit alone.
    plain, *edit = (MODELS[f"Qwen/Qwen-Image{name}"] for name in ("", "-Edit-2511", "-Edit-2509"))
    for spec in edit:
        more = spec.published.ram_gib - plain.published.ram_gib
        assert more == pytest.approx(676_550_144 * 2 / 2**30, abs=0.05)
    picture = vision_picture(Image.new("RGB", vision_size((640, 640))))
    assert (picture.rows, picture.columns, picture.patches.shape) == (14, 14, (784, 1176))


@pytest.mark.skipif(not VOCABULARY, reason="QWEN_TOKENIZER names no folder with Qwen's tokenizer")
def test_64_tokens_are_dropped_of_an_edit_and_34_of_text_to_image(tmp_path) -> None:
    """By the real vocabulary, as both templates end in front of what the user says."""
    from transformers import PreTrainedTokenizerFast

    packed, file = Path(VOCABULARY) / "tokenizer.json.gz", Path(VOCABULARY) / "tokenizer.json"
    if packed.is_file():
        file = tmp_path / "tokenizer.json"
        file.write_bytes(gzip.decompress(packed.read_bytes()))
    words = PreTrainedTokenizerFast(tokenizer_file=str(file), pad_token="<|endoftext|>")
    read = []

    class Looking:
        @staticmethod
        def encode(ids, *_):
            read.append(ids[0].tolist())
            return ids

        def __call__(self, input_ids, **_):
            read.append(input_ids[0].tolist())
            return [torch.zeros(*input_ids.shape, 1)]

    seen = [SeenPicture(2, 3, torch.zeros(6, 1))]
    read_edit(words, Looking(), ["purple"], seen)
    assert words.decode(read[0][:64]).endswith("where appropriate.<|im_end|>\n<|im_start|>user\n")
    assert words.decode(read[0][64:]) == (
        f"Picture 1: <|vision_start|>{'<|image_pad|>' * 6}<|vision_end|>purple<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    whole = words.decode(read[0])
    assert words(whole)["input_ids"] == read[0]  # in pieces as at once
    pipe = PromptEmbedder(words, Looking(), model="words")
    pipe.embed(["purple"])
    assert words.decode(read[1][:34]).endswith("background:<|im_end|>\n<|im_start|>user\n")
    assert words.decode(read[1][34:]).startswith("purple")
