"""Prompts as Qwen-Image-2.1 reads them: another system text, and a bound on their length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from diffsynth.pipelines.qwen_image_21 import QwenImage21Unit_PromptEmbedder
from torch import Tensor, nn

_USER: Final = "<|im_start|>user"


def read_qwen_image_21(tokenizer: Any, encoder: Any, prompts: Sequence[str]) -> list[Tensor]:
    """Return each prompt's [tokens, width], as DiffSynth's `QwenImage21Pipeline` does.

    What comes before the user's turn is left out of the result. Where a text has more positions
    than the transformer has, the last tokens of the prompt itself are left out.
    """
    before, after = _template()
    dropped = len(_tokens(tokenizer, before[: before.index(_USER)]))
    tail = len(_tokens(tokenizer, after))
    # The picture has a position of its own.
    most = QwenImage21Unit_PromptEmbedder.max_text_positions - 1 + dropped
    rows: list[Tensor] = []
    masks: list[Tensor] = []
    for prompt in prompts:
        # Qwen has no token for a beginning: nothing at all could not be read.
        ids = torch.tensor(_tokens(tokenizer, f"{before}{prompt or ' '}{after}"))
        mask = torch.ones_like(ids)
        if len(ids) > most:
            mask[most - tail : -tail] = 0
        rows.append(ids)
        masks.append(mask)
    (states,) = encoder(
        input_ids=nn.utils.rnn.pad_sequence(rows, batch_first=True),
        attention_mask=nn.utils.rnn.pad_sequence(masks, batch_first=True),
    )
    lengths = [int(mask.sum()) for mask in masks]
    return [state[dropped:length] for state, length in zip(states, lengths, strict=True)]


def _template() -> tuple[str, str]:
    """Return what comes before and after the prompt."""
    before, _, after = QwenImage21Unit_PromptEmbedder.prompt_template_t2i.partition("{}")
    return before, after


def _tokens(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids
