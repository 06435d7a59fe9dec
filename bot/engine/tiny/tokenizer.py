"""A tokenizer without files: one id for each byte, and one for each word of the fixed templates."""

from __future__ import annotations

import re
from typing import Any, Final

import torch
from transformers import BatchEncoding

from bot.engine.stream.prompts_edit import BEFORE as EDIT_PREFIX
from bot.engine.stream.prompts_edit import NAMED
from bot.engine.stream.prompts_edit import PICTURE as IMAGE

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
EDIT_PREFIX_IDS: Final = 64
"""The same of an instruction's template."""
# What Qwen2.5-VL's chat template puts before a user's turn to which nobody gave a system text.
CHAT_PREFIX: Final = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
)
PICTURE: Final = f"<|vision_start|>{IMAGE}<|vision_end|>"
PICTURES: Final = 3
END: Final = "<|im_end|>"

_FIRST_WORD: Final = re.compile(r"<\|im_start\|>|<\|im_end\|>| ?[A-Za-z]+|[,:]|\n")
_WORD: Final = re.compile(r"<\|[a-z_]+\|>|'s| ?[A-Za-z]+| \(|[,:.)]+|\n| \d| ")
_FIRST_WORD_ID: Final = 256
_FIRST_WORDS: Final = tuple(dict.fromkeys(_FIRST_WORD.findall(PREFIX + SUFFIX)))
PAD_ID: Final = _FIRST_WORD_ID + len(_FIRST_WORDS)
"""Behind the words of a prompt's template; those of the other templates came later."""
_NAMES: Final = "".join(NAMED.format(number) for number in range(1, PICTURES + 1))
_WORDS: Final = tuple(
    dict.fromkeys((*_FIRST_WORDS, "", *_WORD.findall(EDIT_PREFIX + _NAMES + CHAT_PREFIX)))
)
VOCABULARY: Final = _FIRST_WORD_ID + len(_WORDS)

_IDS: Final = {word: _FIRST_WORD_ID + index for index, word in enumerate(_WORDS)}
IMAGE_ID: Final = _IDS[IMAGE]
END_ID: Final = _IDS[END]
VISION_START_ID: Final = _IDS["<|vision_start|>"]
VISION_END_ID: Final = _IDS["<|vision_end|>"]

# A template's words are such at a text's beginning and end alone.
_SYSTEM: Final = re.compile(r"<\|im_start\|>system\n[^<]*<\|im_end\|>\n<\|im_start\|>user\n")
_HEAD: Final = re.compile(
    f"(?:{re.escape(PREFIX)}|(?:{re.escape(EDIT_PREFIX)}|{re.escape(CHAT_PREFIX)})"
    f"(?:(?:Picture [1-{PICTURES}]: )?{re.escape(PICTURE)})*)"
)


def _words(text: str) -> list[int]:
    return [_IDS[word] for word in _WORD.findall(text)]


class ByteTokenizer:
    """The part of transformers' tokenizer protocol that the pipeline uses.

    Template words have ids from 256, a prompt's UTF-8 bytes have their own values, so no prompt
    can forge a part of the template.
    """

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text: a whole template, the part before or behind, or a prompt."""
        if not text.startswith((PREFIX, EDIT_PREFIX)):  # of system texts it knows but one other
            text = _SYSTEM.sub(CHAT_PREFIX, text, count=1) if _SYSTEM.match(text) else text
        found = _HEAD.match(text)
        head = "" if found is None else found.group()
        text = text.removeprefix(head)
        tail = SUFFIX if text.endswith(SUFFIX) and (head or text == SUFFIX) else ""
        text = text.removesuffix(tail)
        ids = list(text.encode("utf-8", "replace"))[:PROMPT_IDS]
        return _words(head) + ids + _words(tail)

    def get_vocab(self) -> dict[str, int]:
        """Return the ids of the templates' words."""
        return dict(_IDS)

    def decode(self, ids: list[int], **_: Any) -> str:
        """Return the text of bytes up to the first other id; broken characters are `\ufffd`."""
        kept: list[int] = []
        for one in ids:
            if one >= _FIRST_WORD_ID:
                break
            kept.append(one)
        return bytes(kept).decode("utf-8", "replace")

    def convert_tokens_to_ids(self, token: str) -> int:
        """Return the id of a template's word. Raises `KeyError` for another text."""
        return _IDS[token]

    def __call__(
        self,
        text: str | list[str],
        *,
        max_length: int | None = None,
        padding: bool = False,
        truncation: bool = False,
        return_tensors: str | None = None,
        **_: Any,
    ) -> BatchEncoding:
        """Encode to `input_ids` and `attention_mask`: a text to lists, texts to (batch, length).

        A batch is padded right.
        """
        if isinstance(text, str):
            ids = self.encode(text)
            return BatchEncoding({"input_ids": ids, "attention_mask": [1] * len(ids)})
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
