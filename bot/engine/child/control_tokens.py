"""Prompts are data: they can't speak the language of the text encoder's chat template."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from bot.engine.protocol import EngineRequest

# Qwen's tokenizer makes one control token of each of its words in such brackets ("<|im_end|>" ends
# the user's turn), wherever they stand in the text.
_CONTROL: Final = re.compile(r"<\|(\w+)\|>")


def inert_text(prompt: str) -> str:
    """Return `prompt` with spaces in its control tokens, which makes plain text of them."""
    return _CONTROL.sub(r"<| \1 |>", prompt)


def without_control_tokens(request: EngineRequest) -> EngineRequest:
    """Return `request` with both prompts inert; the PNG texts keep them as they were written."""
    return replace(
        request,
        prompt=inert_text(request.prompt),
        negative_prompt=inert_text(request.negative_prompt),
    )
