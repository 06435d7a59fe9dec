"""A tokenizer without files: one id for each byte, and one for each word of the fixed template."""

from __future__ import annotations

import re
from typing import Any, Final

import torch
from transformers import BatchEncoding

# QwenImagePipeline wraps each prompt into this template and drops the first 34 hidden states, the
# count of Qwen2Tokenizer's ids for the text before the prompt.
PREFIX: Final = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n"
)
PREFIX_IDS: Final = 34
SUFFIX: Final = "<|im_end|>\n<|im_start|>assistant\n"
PROMPT_IDS: Final = 512
"""The longest prompt that Qwen-Image was trained on; the rest is cut off."""

_WORD: Final = re.compile(r"<\|im_start\|>|<\|im_end\|>| ?[A-Za-z]+|[,:]|\n")
_FIRST_WORD_ID: Final = 256
_WORDS: Final = tuple(dict.fromkeys(_WORD.findall(PREFIX + SUFFIX)))
PAD_ID: Final = _FIRST_WORD_ID + len(_WORDS)
VOCABULARY: Final = PAD_ID + 1


def _words(text: str) -> list[int]:
    return [_FIRST_WORD_ID + _WORDS.index(word) for word in _WORD.findall(text)]


class ByteTokenizer:
    """The part of transformers' tokenizer protocol that the pipeline uses.

    Template words have ids from 256, a prompt's UTF-8 bytes have their own values, so no prompt
    can forge a part of the template.
    """

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text."""
        head: list[int] = []
        tail: list[int] = []
        if text.startswith(PREFIX):
            head, text = _words(PREFIX), text.removeprefix(PREFIX)
            if text.endswith(SUFFIX):
                text, tail = text.removesuffix(SUFFIX), _words(SUFFIX)
        return head + list(text.encode("utf-8", "replace"))[:PROMPT_IDS] + tail

    def __call__(
        self,
        text: list[str],
        *,
        max_length: int | None = None,
        padding: bool = False,
        truncation: bool = False,
        return_tensors: str | None = None,
        **_: Any,
    ) -> BatchEncoding:
        """Encode a batch to `input_ids` and `attention_mask`, (batch, length), padded right."""
        rows = [self.encode(one) for one in text]
        if truncation and max_length is not None:
            rows = [row[:max_length] for row in rows]
        width = max(map(len, rows)) if padding else 0
        ids = [row + [PAD_ID] * (width - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
        values: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if return_tensors == "pt":
            values = {name: torch.tensor(rows_) for name, rows_ in values.items()}
        return BatchEncoding(values)
