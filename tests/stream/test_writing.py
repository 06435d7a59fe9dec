"""What the streamed language model writes, against transformers' `generate` on the same weights."""

from __future__ import annotations

import pytest

from bot.engine.child.quick_imports import quick_imports
from bot.engine.stream.storage import Storage

with quick_imports():
    import torch

from types import SimpleNamespace

from bot.engine.protocol import Ending
from bot.engine.stream.device import Device
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.one_token import OneToken
from bot.engine.stream.prompts_chat import LONGEST, AnswerText, read_question, stops_of
from bot.engine.stream.sampling import chooser
from bot.engine.stream.text_layout import QWEN3
from bot.engine.stream.vision import StreamedVisionTower
from bot.engine.stream.vision_kind import VISION3
from bot.engine.stream.vision_picture import SeenPicture, vision_picture
from bot.engine.stream.writing import AnswerBounds, StreamedWriter
from bot.errors import GenerationCancelled
from tests.engine.small_models import TEXT as TEXT3
from tests.stream.edits import painted, small_pipe

SYSTEM = "You help."
MOST = 24


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return small_pipe(tmp_path_factory.mktemp("words") / "tokenizer")


@pytest.fixture(scope="module")
def stock(pipe):
    """transformers' own class, with the weights of the small encoder."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    config = pipe.text_encoder.config
    made = Qwen2_5_VLForConditionalGeneration(config).eval()
    made.load_state_dict(pipe.text_encoder.state_dict())
    return made


def writer_of(pipe, storage=Storage.PLAIN, **options):
    encoder = StreamedTextEncoder.from_module(
        pipe.text_encoder, Device(), torch.float32, storage=storage, **options
    )
    encoder.vision = StreamedVisionTower.from_module(
        pipe.text_encoder, encoder.device, torch.float32, encoder.streamer
    )
    return StreamedWriter(encoder, pipe.text_encoder.lm_head.weight)


def seen_by(writer, pictures):
    states = writer.encoder.vision.encode(pictures)
    return [
        SeenPicture(one.rows, one.columns, state)
        for one, state in zip(pictures, states, strict=True)
    ]


def layers_there(writer):
    return sum(map(writer.encoder.streamer.is_resident, writer.encoder.order))


def written(writer, question, *, room=None, tokens=MOST, stops=(), choose=None):
    found = []
    writer.bring(room, writer.working_bytes(len(question.ids), tokens))
    there = layers_there(writer)
    ending = writer.write(
        question,
        AnswerBounds(stops, tokens),
        **({} if choose is None else {"choose": choose}),
        on_token=found.append,
    )
    writer.rest()
    return found, ending, there


def generated(stock, question, pictures, *, use_cache):
    ids = question.ids[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if pictures:
        inputs["pixel_values"] = torch.cat([one.patches for one in pictures])
        inputs["image_grid_thw"] = torch.tensor(
            [[1, 2 * one.rows, 2 * one.columns] for one in pictures]
        )
        inputs["mm_token_type_ids"] = (ids == stock.config.image_token_id).int()
    made = stock.generate(
        **inputs, max_new_tokens=MOST, do_sample=False, use_cache=use_cache, eos_token_id=None
    )
    return made[0, ids.shape[1] :].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_answers_are_those_of_transformers(pipe, stock, count, use_cache) -> None:
    """With all layers on the device, some of them and none: four budgets."""
    writer = writer_of(pipe)
    pictures = [vision_picture(painted(seed)) for seed in range(count)]
    question = read_question(pipe.tokenizer, SYSTEM, "what is it?", seen_by(writer, pictures))
    want = generated(stock, question, pictures, use_cache=use_cache)
    assert len(set(want)) > 3  # no stuck model, of which anything is equal
    working = writer.working_bytes(len(question.ids), MOST)
    layer = writer.encoder.layout.size
    for layers in range(4):
        got, ending, there = written(writer, question, room=working + layers * layer)
        assert (got, ending, there) == (want, Ending.TOKENS, layers)
        assert not [key for key in writer.encoder.order if writer.encoder.streamer.is_resident(key)]
        assert not writer.encoder.streamer._slots


def test_an_answer_depends_on_the_pictures_and_the_system_text(pipe) -> None:
    writer = writer_of(pipe)
    pictures = [[vision_picture(painted(seed))] for seed in (0, 3)]
    questions = [
        read_question(pipe.tokenizer, SYSTEM, "what?", seen_by(writer, each)) for each in pictures
    ]
    questions.append(read_question(pipe.tokenizer, SYSTEM, "what?"))
    questions.append(read_question(pipe.tokenizer, "Be quiet.", "what?"))
    answers = [tuple(written(writer, question)[0]) for question in questions]
    assert len(set(answers)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("storage", [Storage.INT8, Storage.FP8])
def test_eight_bits_write_the_same_from_the_device_and_streamed(pipe, storage) -> None:
    writer = writer_of(pipe, storage)
    question = read_question(pipe.tokenizer, SYSTEM, "a cat")
    want, _, there = written(writer, question)
    assert there == 3
    assert written(writer, question, room=0) == (want, Ending.TOKENS, 0)


@pytest.mark.parametrize(("tied", "count"), [(True, 0), (False, 0), (False, 1), (False, 2)])
def test_qwen3_writes_as_transformers_does_though_it_draws_before_its_last_norm(
    pipe, tied, count
) -> None:
    """Of pictures its first layers read more than their rows (deepstack)."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    torch.manual_seed(2)
    words = {
        f"{name}_token_id": pipe.tokenizer.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in (
            *(("image", "image_pad"), ("video", "video_pad")),
            *(("vision_start", "vision_start"), ("vision_end", "vision_end")),
        )
    }
    config = Qwen3VLConfig(**TEXT3 | words)
    config.text_config.vocab_size = len(pipe.tokenizer)
    config.tie_word_embeddings = tied
    stock = Qwen3VLForConditionalGeneration(config).eval()
    with torch.no_grad():
        for each in stock.parameters():
            if each.ndim > 1:
                each.normal_(0.0, each[0].numel() ** -0.5)
    assert (stock.lm_head.weight is stock.model.language_model.embed_tokens.weight) == tied
    encoder = StreamedTextEncoder.from_module(
        SimpleNamespace(model=stock.model, config=stock.config),
        Device(),
        torch.float32,
        storage=Storage.PLAIN,
        family=QWEN3,
    )
    encoder.vision = StreamedVisionTower.from_module(
        stock, encoder.device, torch.float32, encoder.streamer, VISION3
    )
    writer = StreamedWriter(encoder, stock.lm_head.weight)
    pictures = [vision_picture(painted(seed), VISION3) for seed in range(count)]
    question = read_question(pipe.tokenizer, SYSTEM, "a cat", seen_by(writer, pictures))
    want = generated(stock, question, pictures, use_cache=True)
    assert len(set(want)) > 3
    assert written(writer, question)[0] == want
    assert written(writer, question, room=0)[0] == want


def test_an_answer_ends_where_it_is_to(pipe) -> None:
    writer = writer_of(pipe)
    question = read_question(pipe.tokenizer, SYSTEM, "a cat")
    whole, _, _ = written(writer, question)
    stop = next(token for token in whole[2:] if token not in whole[:2])
    assert written(writer, question, stops={stop})[:2] == (
        whole[: whole.index(stop)],
        Ending.STOPPED,
    )
    assert written(writer, question, tokens=5)[:2] == (whole[:5], Ending.TOKENS)
    found = []
    writer.bring(None, 0)
    ending = writer.write(question, AnswerBounds((), MOST, 0.0), on_token=found.append)
    assert (found, ending) == (whole[:1], Ending.SECONDS)

    def cancel(token):
        found.append(token)
        if len(found) == 4:
            raise GenerationCancelled

    found.clear()
    with pytest.raises(GenerationCancelled):
        writer.write(question, AnswerBounds((), MOST), on_token=cancel)
    writer.rest()
    assert found == whole[:4]
    assert written(writer, question)[0] == whole  # nothing is left of the one that was cut off


def test_chance_follows_the_seed_and_the_temperature(pipe) -> None:
    writer = writer_of(pipe)
    question = read_question(pipe.tokenizer, SYSTEM, "a cat")

    def sampled(temperature, seed):
        return written(writer, question, choose=chooser(temperature, seed))[0]

    greedy = sampled(0.0, 1)
    assert sampled(1e-4, 1) == greedy
    assert sampled(1.5, 1) == sampled(1.5, 1)
    assert len({tuple(sampled(1.5, seed)) for seed in range(4)}) == 4


def test_chance_leaves_out_what_is_unlikely() -> None:
    choose = chooser(1.0, 7)
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    found = [choose(logits) for _ in range(300)]
    assert set(found) == {0, 1, 2}  # 0.95 are reached before the last
    shares = [found.count(one) / 300 for one in range(3)]
    assert shares[0] > shares[1] > shares[2] > 0


def test_passages_after_the_first_see_one_token(pipe, monkeypatch) -> None:
    writer = writer_of(pipe)
    lengths = []
    through = writer.encoder.through

    def counted(states, *rest, **options):
        lengths.append(states[0].shape[1])
        through(states, *rest, **options)

    monkeypatch.setattr(writer.encoder, "through", counted)
    question = read_question(pipe.tokenizer, SYSTEM, "a cat")
    written(writer, question, tokens=3)
    assert lengths == [len(question.ids), 1, 1]


def test_a_card_that_takes_no_graph_writes_without(pipe, caplog) -> None:
    """There is no card here at all: recording fails in the first call of CUDA's."""
    writer = writer_of(pipe)
    encoder, finish = writer.encoder, writer._logits
    writer.bring(None, 0)
    state = encoder.embedded(torch.tensor([7]))
    found = []
    for replayed in (False, True):
        one = OneToken(encoder, 9, finish, replayed=replayed)
        encoder.through([state.clone()], [torch.zeros(1)], caches=one.caches)
        found.append(torch.stack([one(state, index, index) for index in (1, 2, 3)]))
        one.close()
    assert torch.equal(*found)
    assert caplog.text.count("without a CUDA graph") == 1


def test_drawing_from_prompts_is_the_same_while_and_after_it_writes(pipe) -> None:
    writer = writer_of(pipe, Storage.INT8)
    ids = [torch.arange(9)]
    before = writer.encoder.encode(ids)[0]
    writer.bring(None, 0)
    assert torch.equal(writer.encoder.encode(ids)[0], before)
    writer.rest()
    assert torch.equal(writer.encoder.encode(ids)[0], before)


def test_long_prompts_are_cut_before_the_template_ends(pipe) -> None:
    seen = [SeenPicture(5, 6, torch.ones(30, 256))]
    short = read_question(pipe.tokenizer, SYSTEM, "x", seen)
    long = read_question(pipe.tokenizer, SYSTEM, "xy" * LONGEST, seen)
    assert len(long.ids) == LONGEST
    assert torch.equal(long.ids[-3:], short.ids[-3:])
    assert long.pictures is not None
    assert len(long.pictures.rows) == 30


def test_characters_come_whole_and_every_byte_comes(pipe) -> None:
    text = "a 猫 – “né”"
    ids = pipe.tokenizer(text)["input_ids"]
    assert len(ids) > len(text)  # some characters are several tokens
    answer = AnswerText(pipe.tokenizer)
    pieces = [answer.add(token) for token in ids]
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert answer.end() == ""
    answer.add(pipe.tokenizer("猫")["input_ids"][0])
    assert answer.end() == "\ufffd"
    assert stops_of(pipe.tokenizer) <= set(pipe.tokenizer.get_vocab().values())
