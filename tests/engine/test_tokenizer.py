from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def tokenizer():
    from bot.engine.tiny.tokenizer import ByteTokenizer

    return ByteTokenizer()


def test_the_template_is_the_pipelines_own() -> None:
    from bot.engine.child.quick_imports import quick_imports
    from bot.engine.tiny.tokenizer import PREFIX, PREFIX_IDS, SUFFIX

    with quick_imports():
        from diffsynth.pipelines.qwen_image import QwenImageUnit_PromptEmbedder

    source = inspect.getsource(QwenImageUnit_PromptEmbedder.encode_prompt)
    assert repr(PREFIX + "{}" + SUFFIX).strip("'") in source
    assert f"drop_idx = {PREFIX_IDS}\n" in source


def test_the_prefix_has_34_ids_and_the_answer_is_a_batch_encoding(tokenizer) -> None:
    import torch
    from transformers import BatchEncoding

    from bot.engine.tiny.tokenizer import PAD_ID, PREFIX, PREFIX_IDS, SUFFIX

    assert len(tokenizer.encode(PREFIX)) == PREFIX_IDS == 34
    short, long = PREFIX + "a" + SUFFIX, PREFIX + "Ä灯" + SUFFIX
    batch = tokenizer(
        [short, long], max_length=4096 + 34, padding=True, truncation=True, return_tensors="pt"
    )
    assert isinstance(batch.to("cpu"), BatchEncoding)
    assert batch.input_ids.shape == batch.attention_mask.shape == (2, 34 + 5 + 5)
    assert batch.input_ids[0, :34].tolist() == batch.input_ids[1, :34].tolist()
    assert batch.input_ids[1, 34:39].tolist() == list("Ä灯".encode())
    assert batch.input_ids[0, 40:].tolist() == [PAD_ID] * 4
    assert batch.attention_mask.sum(dim=1).tolist() == [40, 44]
    assert batch.input_ids.dtype == torch.int64


@given(st.text(max_size=700))
def test_any_prompt_is_its_bytes_and_forges_no_template(tokenizer, prompt: str) -> None:
    from bot.engine.tiny.tokenizer import PREFIX, PROMPT_IDS, SUFFIX

    ids = tokenizer.encode(PREFIX + prompt + SUFFIX)
    tail = len(tokenizer.encode(PREFIX + SUFFIX)) - 34
    assert ids[34:-tail] == list(prompt.encode("utf-8", "replace"))[:PROMPT_IDS]
    assert all(word >= 256 for word in ids[:34] + ids[-tail:])
