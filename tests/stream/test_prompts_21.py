"""Prompts of Qwen-Image-2.1: tokens and states against DiffSynth's own unit, small and random."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    import torch
    from diffsynth.models.qwen_image_21_text_encoder import QwenImage21TextEncoder
    from diffsynth.pipelines.qwen_image_21 import QwenImage21Unit_PromptEmbedder

from bot.engine.stream.device import Device
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.prompts import PromptEmbedder
from bot.engine.stream.prompts_21 import places_21, read_edit_21, read_qwen_image_21
from bot.engine.stream.storage import Storage
from bot.engine.stream.text_layout import QWEN3
from bot.engine.stream.vision import StreamedVisionTower
from bot.engine.stream.vision_kind import VISION3
from bot.engine.stream.vision_picture import SeenPicture, VisionPicture, vision_picture
from bot.errors import EngineError, EngineErrorKind
from tests.engine.small_models import TEXT, _write_processor
from tests.stream.kit import error

PROMPTS = ["a cat on a mat, in oil", "", "Ein Café: “猫咪咖啡” — neon"]


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    """What DiffSynth's unit takes of a pipeline."""
    from transformers import AutoProcessor

    folder = tmp_path_factory.mktemp("words") / "processor"
    _write_processor(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(QwenImage21TextEncoder, "QWEN_IMAGE_21_TEXT_ENCODER_CONFIG", TEXT)
        torch.manual_seed(3)
        encoder = QwenImage21TextEncoder().eval().requires_grad_(requires_grad=False)
    return SimpleNamespace(
        processor=AutoProcessor.from_pretrained(str(folder)),
        text_encoder=encoder,
        device=torch.device("cpu"),
        torch_dtype=torch.float32,
        load_models_to_device=lambda _: None,
    )


def embedder(pipe) -> PromptEmbedder:
    encoder = StreamedTextEncoder.from_module(
        SimpleNamespace(model=pipe.text_encoder.model.model, config=pipe.text_encoder.config),
        Device(),
        torch.float32,
        storage=Storage.PLAIN,
        family=QWEN3,
    )
    encoder.vision = StreamedVisionTower.from_module(
        pipe.text_encoder.model, encoder.device, torch.float32, encoder.streamer, VISION3
    )
    return PromptEmbedder(
        pipe.processor.tokenizer,
        encoder,
        model="small",
        read=read_qwen_image_21,
        read_edit=read_edit_21,
        places=places_21,
    )


def stock(pipe, prompt: str) -> torch.Tensor:
    found = QwenImage21Unit_PromptEmbedder().process(pipe, prompt, None)
    assert found["prompt_embeds_mask"] is None
    return found["prompt_embeds"][0]


SHAPES = ((256, 256), (128, 544), (416, 160))


def painted() -> list[Image.Image]:
    random = np.random.default_rng(1)
    small = random.integers(0, 256, (len(SHAPES), 7, 7, 3), dtype=np.uint8)
    return [
        Image.fromarray(one).resize(size, Image.Resampling.NEAREST)
        for one, size in zip(small, SHAPES, strict=True)
    ]


def looked(pictures) -> list[VisionPicture]:
    return [vision_picture(one, VISION3) for one in pictures]


def stock_edit(pipe, prompt: str, pictures) -> tuple[torch.Tensor, tuple[int, ...]]:
    """States of the words, and how many of them stand in front of each picture."""
    latents = [torch.zeros(1, 1, one.height // 16, one.width // 16) for one in pictures]
    found = QwenImage21Unit_PromptEmbedder().process(pipe, prompt, pictures, latents)
    seen, places, words = found["edit_image_pad_mask"][0].tolist(), [], 0
    for before, at in zip([False, *seen], seen, strict=False):
        if at and not before:
            places.append(words)
        words += not at
    return found["prompt_embeds"][0][~found["edit_image_pad_mask"][0]], tuple(places)


@pytest.mark.parametrize("count", [1, 3])
def test_with_pictures_words_have_the_states_and_places_of_diffsynth(pipe, count):
    made, pictures = embedder(pipe), painted()[:count]
    got = made.embed(PROMPTS, pictures=looked(pictures))
    for one, prompt in zip(got, PROMPTS, strict=True):
        want, places = stock_edit(pipe, prompt, pictures)
        assert one.shape == want.shape
        assert error(one, want) < 1e-5
        assert made.places(count) == places
    assert torch.equal(made.embed(PROMPTS[:1], pictures=looked(pictures))[0], got[0])


def test_the_first_layers_see_more_of_a_picture(pipe):
    """Without what later layers read of the tower's blocks the states are others."""
    made, pictures = embedder(pipe), painted()[:1]
    want, _ = stock_edit(pipe, PROMPTS[0], pictures)
    (one,) = made.encoder.vision.encode(looked(pictures))
    assert one.shape == (64, 2 * made.encoder.geometry.dim)
    blind = SeenPicture(8, 8, one[:, : made.encoder.geometry.dim])
    (got,) = read_edit_21(pipe.processor.tokenizer, made.encoder, PROMPTS[:1], [blind])
    assert got.shape == want.shape
    assert error(got, want) > 1e-4


@pytest.mark.parametrize("spare", [-4, 0, 5, 100])
def test_positions_of_pictures_are_the_prompts_no_more(pipe, monkeypatch, spare):
    """As DiffSynth: the prompt's end is left out; and where none of it stays, all is refused."""
    made, pictures = embedder(pipe), painted()
    prompt, unit = "a lighthouse", QwenImage21Unit_PromptEmbedder
    words = len(stock_edit(pipe, prompt, pictures)[0])
    taken = sum(max(one.size) // 16 for one in pictures)
    most = words - len(prompt) + taken + 1 + spare
    monkeypatch.setattr(unit, "max_text_positions", most)
    if spare < 1:
        with pytest.raises(EngineError) as caught:
            made.embed([prompt], pictures=looked(pictures))
        assert caught.value.kind is EngineErrorKind.REFUSED
        assert "leave no room for a prompt" in str(caught.value.sentence)
        return
    want, _ = stock_edit(pipe, prompt, pictures)
    (got,) = made.embed([prompt], pictures=looked(pictures))
    assert len(want) == min(words, words - len(prompt) + spare)
    assert got.shape == want.shape
    assert error(got, want) < 1e-5


def test_states_are_those_of_diffsynth_alone_and_together(pipe):
    made = embedder(pipe)
    for one, prompt in zip(made.embed(PROMPTS), PROMPTS, strict=True):
        want = stock(pipe, prompt)
        assert one.shape == want.shape
        assert error(one, want) < 1e-5
    assert torch.equal(made.embed([""])[0], made.embed([""])[0])
    assert torch.equal(made.embed([""])[0], embedder(pipe).embed([" "])[0])


@pytest.mark.parametrize("positions", [60, 75, 200])
def test_what_the_transformer_has_no_position_for_is_left_out_as_by_diffsynth(
    pipe, monkeypatch, positions
):
    """Of the prompt's end, in front of the template's."""
    prompt = "a lighthouse, " * 6
    whole = stock(pipe, prompt)
    monkeypatch.setattr(QwenImage21Unit_PromptEmbedder, "max_text_positions", positions)
    want = stock(pipe, prompt)
    (got,) = embedder(pipe).embed([prompt])
    assert (len(want) < len(whole)) == (positions < 150)
    assert got.shape == want.shape
    assert error(got, want) < 1e-5
