"""What the toy text encoder writes: greedy decoding by its language head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor

from bot.engine.stream.vision_picture import VisionPicture, vision_picture
from bot.engine.tiny.tokenizer import (
    CHAT_PREFIX,
    IMAGE_ID,
    PICTURE,
    SUFFIX,
    ByteTokenizer,
)

SEEN: Final = 224
"""Side of a square with the area that the vision tower was trained on, in pixels."""
_BYTES: Final = 256


def request_text(user: str, *, pictures: int) -> str:
    """Return the chat template's text up to the answer, as Qwen2.5-VL's template writes it."""
    return f"{CHAT_PREFIX}{PICTURE * pictures}{user}{SUFFIX}"


@torch.no_grad()
def answer(encoder: Any, user: str, pictures: Sequence[Image.Image] = (), most: int = 120) -> str:
    """Return what the encoder answers, at most `most` bytes of UTF-8.

    `encoder` is a `TinyTextEncoder` on the CPU; `pictures` (RGB) stand before `user`. The likeliest
    id is taken each time, up to the first that is no byte.
    """
    seen = [vision_picture(one.resize((SEEN, SEEN), Image.Resampling.LANCZOS)) for one in pictures]
    inputs = _inputs(request_text(user, pictures=len(seen)), seen)
    tokenizer, found = ByteTokenizer(), list[int]()
    while len(found) < most:
        made = encoder.model(**inputs, use_cache=False)
        one = int(encoder.lm_head(made.last_hidden_state[:, -1]).argmax())
        if one >= _BYTES:
            break
        found.append(one)
        more = {"input_ids": one, "attention_mask": 1, "mm_token_type_ids": 0}
        for name in more.keys() & inputs.keys():
            inputs[name] = torch.cat([inputs[name], torch.tensor([[more[name]]])], 1)
    return tokenizer.decode(found)


def _inputs(text: str, seen: Sequence[VisionPicture]) -> dict[str, Tensor]:
    coming = iter(seen)
    ids: list[int] = []
    for one in ByteTokenizer().encode(text):
        ids += [one] * (next(coming).tokens if one == IMAGE_ID else 1)
    rows = torch.tensor([ids])
    inputs = {"input_ids": rows, "attention_mask": torch.ones_like(rows)}
    if seen:
        inputs["pixel_values"] = torch.cat([one.patches for one in seen])
        inputs["image_grid_thw"] = torch.tensor([[1, 2 * s.rows, 2 * s.columns] for s in seen])
        inputs["mm_token_type_ids"] = (rows == IMAGE_ID).int()
    return inputs
