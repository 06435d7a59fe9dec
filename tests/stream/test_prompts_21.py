"""Prompts of Qwen-Image-2.1: tokens and states against DiffSynth's own unit, small and random."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    import torch
    from diffsynth.models.qwen_image_21_text_encoder import QwenImage21TextEncoder
    from diffsynth.pipelines.qwen_image_21 import QwenImage21Unit_PromptEmbedder

from bot.engine.stream.device import Device
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.prompts import PromptEmbedder
from bot.engine.stream.prompts_21 import read_qwen_image_21
from bot.engine.stream.storage import Storage
from bot.engine.stream.text_layout import QWEN3
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
    words = pipe.processor.tokenizer
    return PromptEmbedder(words, encoder, model="small", read=read_qwen_image_21)


def stock(pipe, prompt: str) -> torch.Tensor:
    found = QwenImage21Unit_PromptEmbedder().process(pipe, prompt, None)
    assert found["prompt_embeds_mask"] is None
    return found["prompt_embeds"][0]


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
