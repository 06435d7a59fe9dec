"""Prompts of Qwen-Image-Edit: an instruction behind the pictures that it speaks of."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from bot.engine.stream.encoder import Insertion, StreamedTextEncoder
from bot.engine.stream.vision_picture import SeenPicture

PICTURE: Final = "<|image_pad|>"
# DiffSynth has these texts within a function, `encode_prompt_edit_multi`.
BEFORE: Final = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, "
    "texture, objects, background), then explain how the user's text instruction should alter or "
    "modify the image. Generate a new image that meets the user's requirements while maintaining "
    "consistency with the original input where appropriate.<|im_end|>\n<|im_start|>user\n"
)
NAMED: Final = f"Picture {{}}: <|vision_start|>{PICTURE}<|vision_end|>"
_AFTER: Final = "<|im_end|>\n<|im_start|>assistant\n"
_DROPPED: Final = 64
"""Tokens of `BEFORE`, which no picture is drawn from."""
# The transformer has 4096 positions for text, which begin where those of the largest picture end.
_LONGEST: Final = 3840


def read_edit(
    tokenizer: Any,
    encoder: StreamedTextEncoder,
    prompts: Sequence[str],
    pictures: Sequence[SeenPicture],
    then: Sequence[Hashable] = (),
) -> list[Tensor]:
    """Return each prompt's [tokens, width], as `QwenImagePipeline` does with a list of pictures.

    Every prompt sees all pictures, which it may call "Picture 1" and so on. Unlike there, the
    end of a prompt is left out which the transformer has no position for. `then` is for
    `StreamedTextEncoder.encode`.
    """
    named = "".join(NAMED.format(number) for number in range(1, len(pictures) + 1))
    before, after = _tokens(tokenizer, BEFORE + named), _tokens(tokenizer, _AFTER)
    mark: int = tokenizer.convert_tokens_to_ids(PICTURE)
    before, places, rows = with_pictures(before, mark, pictures)
    room = max(0, _LONGEST + _DROPPED - len(before) - len(after))
    start = int(places.max()) + 1
    all_ids: list[Tensor] = []
    all_places: list[Tensor] = []
    for prompt in prompts:
        # Control tokens on both sides part the prompt from the rest: read alone, it is the same.
        rest = [*_tokens(tokenizer, prompt)[:room], *after]
        all_ids.append(torch.tensor([*before, *rest]))
        text = torch.arange(start, start + len(rest)).expand(3, -1)
        all_places.append(torch.cat([places, text], 1))
    seen = Insertion(rows, torch.cat([picture.states for picture in pictures]))
    states = encoder.encode(all_ids, then, all_places, [seen] * len(all_ids))
    return [state[_DROPPED:] for state in states]


def with_pictures(
    ids: Sequence[int], mark: int, pictures: Sequence[SeenPicture]
) -> tuple[list[int], Tensor, Tensor]:
    """Repeat each `mark` in `ids` for every token of its picture.

    Returns them with their positions [3, tokens] (time, height, width) and the rows where pictures
    stand. Text goes on behind the longer side of a picture, as in transformers' `get_rope_index`.
    """
    found: list[int] = []
    places: list[Tensor] = []
    rows: list[int] = []
    coming, start = iter(pictures), 0
    for token in ids:
        if token != mark:
            found.append(token)
            places.append(torch.full((3, 1), start))
            start += 1
            continue
        picture = next(coming)
        high, wide = picture.rows, picture.columns
        rows += range(len(found), len(found) + high * wide)
        found += [mark] * (high * wide)
        grid = torch.meshgrid(
            torch.arange(1), torch.arange(high), torch.arange(wide), indexing="ij"
        )
        places.append(torch.stack(grid).flatten(1) + start)
        start += max(high, wide)
    return found, torch.cat(places, 1), torch.tensor(rows)


def _tokens(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids
