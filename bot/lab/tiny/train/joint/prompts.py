"""Ids of instructions and of exchanges, in rows of fixed lengths."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from bot.engine.tiny.tokenizer import (
    CHAT_PREFIX,
    EDIT_PREFIX,
    END_ID,
    IMAGE_ID,
    NAMED,
    PAD_ID,
    PICTURE,
    SUFFIX,
    ByteTokenizer,
)
from bot.lab.tiny.train.joint.seeing import PICTURE_TOKENS
from bot.lab.tiny.train.scenes.language import Exchange

ONE: Final = 224
"""Tokens of an instruction with one picture, and of an exchange."""
TWO: Final = 280
"""Tokens of an instruction with two pictures."""

Ids = NDArray[np.int16]
_TOKENIZER: Final = ByteTokenizer()


def _with_pictures(text: str) -> list[int]:
    found: list[int] = []
    for one in _TOKENIZER.encode(text):
        found += [one] * (PICTURE_TOKENS if one == IMAGE_ID else 1)
    return found


def _padded(ids: list[int], length: int) -> Ids | None:
    if len(ids) > length:
        return None
    return np.asarray(ids + [PAD_ID] * (length - len(ids)), np.int16)


def instruction_ids(text: str, pictures: int) -> Ids | None:
    """Return the ids [`ONE` or `TWO`] of an instruction behind its pictures; None if too long."""
    named = "".join(NAMED.format(number) for number in range(1, pictures + 1))
    ids = _with_pictures(EDIT_PREFIX + named + text + SUFFIX)
    return _padded(ids, ONE if pictures == 1 else TWO)


def request_text(user: str, *, pictures: int) -> str:
    """Return the chat template's text up to the answer, as Qwen2.5-VL's template writes it."""
    return f"{CHAT_PREFIX}{PICTURE * pictures}{user}{SUFFIX}"


def exchange_ids(exchange: Exchange, *, pictures: int) -> tuple[Ids, int] | None:
    """Return the ids [`ONE`] of an exchange and where its answer begins; None if too long."""
    asked = _with_pictures(request_text(exchange.user, pictures=pictures))
    ids = _padded([*asked, *exchange.answer.encode(), END_ID], ONE)
    return None if ids is None else (ids, len(asked))
