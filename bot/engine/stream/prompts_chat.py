"""Questions to the language model, by the chat template of Qwen's models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch

from bot.engine.stream.encoder import Insertion
from bot.engine.stream.prompts_edit import PICTURE, with_pictures
from bot.engine.stream.vision_picture import SeenPicture
from bot.engine.stream.writing import Question

# Qwen2.5-VL's `chat_template.json` and Qwen3-VL's write this of a system text and one user's turn,
# whose pictures come first.
_BEFORE: Final = "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{pictures}"
_PICTURE: Final = f"<|vision_start|>{PICTURE}<|vision_end|>"
_AFTER: Final = "<|im_end|>\n<|im_start|>assistant\n"
_STOPS: Final = ("<|im_end|>", "<|endoftext|>")
LONGEST: Final = 4096
"""Tokens of a question; the end of a longer prompt is left out."""


def read_question(
    tokenizer: Any, system: str, prompt: str, pictures: Sequence[SeenPicture] = ()
) -> Question:
    """Return a question of a system text and a user's turn, neither with control tokens."""
    before = _BEFORE.format(system=system, pictures=_PICTURE * len(pictures))
    start, after = _tokens(tokenizer, before), _tokens(tokenizer, _AFTER)
    # Whole, since a line feed at the end of one part and at the beginning of the next is one token.
    ids = _tokens(tokenizer, f"{before}{prompt}{_AFTER}")
    seen = sum(one.rows * one.columns - 1 for one in pictures)
    if (over := len(ids) + seen - LONGEST) > 0:
        end = len(ids) - len(after)
        ids = ids[: max(len(start), end - over)] + after
    if not pictures:
        return Question(torch.tensor(ids), torch.arange(len(ids)).expand(3, -1))
    mark: int = tokenizer.convert_tokens_to_ids(PICTURE)
    ids, places, rows = with_pictures(ids, mark, pictures)
    states = torch.cat([picture.states for picture in pictures])
    return Question(torch.tensor(ids), places, Insertion(rows, states))


def stops_of(tokenizer: Any) -> frozenset[int]:
    """Return the ids that end an answer."""
    known = tokenizer.get_vocab()
    return frozenset(known[word] for word in _STOPS if word in known)


class AnswerText:
    """The text of an answer, made of its tokens as they come.

    A character may be several tokens: what is no whole one yet waits for the next.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._waiting: list[int] = []

    def add(self, token: int) -> str:
        """Take a token; return what is whole by now, maybe nothing."""
        self._waiting.append(token)
        text = self._text()
        if text.endswith("\ufffd"):
            return ""
        self._waiting.clear()
        return text

    def end(self) -> str:
        """Return what waits for ever, as it is."""
        text = self._text()
        self._waiting.clear()
        return text

    def _text(self) -> str:
        text: str = self._tokenizer.decode(
            self._waiting, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def _tokens(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids
