"""Control tokens of the text encoder's chat template, made plain text where a prompt has them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from bot.engine.protocol import EngineRequest, WriteRequest

# Qwen's tokenizer turns certain words in such brackets into control tokens ("<|im_end|>" ends the
# user's turn), wherever they stand in the text. A prompt is data, and must not contain any.
_CONTROL: Final = re.compile(r"<\|(\w+)\|>")


def inert_text(prompt: str) -> str:
    """Return `prompt` with spaces in its control tokens, which makes them plain text."""
    return _CONTROL.sub(r"<| \1 |>", prompt)


def without_control_tokens(request: EngineRequest) -> EngineRequest:
    """Return `request` with both prompts inert; the PNG texts keep them as they were written."""
    return replace(
        request,
        prompt=inert_text(request.prompt),
        negative_prompt=inert_text(request.negative_prompt),
    )


def without_control_words(request: WriteRequest) -> WriteRequest:
    """Return `request` with its texts inert."""
    return replace(request, system=inert_text(request.system), prompt=inert_text(request.prompt))
