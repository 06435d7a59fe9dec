"""Prompts as Qwen-Image-2.1 reads them: another system text, and a bound on their length.

Pictures that a prompt speaks of stand in front of it. The transformer has their latents where the
language model has the rows of the vision tower, so that what these became is left out here, and
`places_21` tells where it was.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

import torch
from diffsynth.pipelines.qwen_image_21 import QwenImage21Unit_PromptEmbedder
from torch import Tensor, nn

from bot.engine.stream.encoder import Insertion, StreamedTextEncoder
from bot.engine.stream.prompts_edit import PICTURE, with_pictures
from bot.engine.stream.vision_picture import SeenPicture
from bot.errors import EngineError, EngineErrorKind
from bot.words import mark

_USER: Final = "<|im_start|>user"
# DiffSynth has the first picture in a constant, and writes the others within `process`.
_NAMED: Final = f"<image{{}}><|vision_start|>{PICTURE}<|vision_end|>"
_LATENTS: Final = 2
"""Latents on a side of what is one token of the language model: 32 pixels."""


def read_qwen_image_21(tokenizer: Any, encoder: Any, prompts: Sequence[str]) -> list[Tensor]:
    """Return each prompt's [tokens, width], as DiffSynth's `QwenImage21Pipeline` does.

    What comes before the user's turn is left out of the result. Where a text has more positions
    than the transformer has, the last tokens of the prompt itself are left out.
    """
    before, after = _template(0)
    dropped = _dropped(tokenizer, before)
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


def read_edit_21(
    tokenizer: Any,
    encoder: StreamedTextEncoder,
    prompts: Sequence[str],
    pictures: Sequence[SeenPicture],
    then: Sequence[Hashable] = (),
) -> list[Tensor]:
    """Return each prompt's [tokens, width] as with pictures, of which it sees all, in front of it.

    Tokens of pictures are left out, and as by `read_qwen_image_21` the system's. So is the end of a
    prompt for which pictures, each as many positions as its longer side has latents, leave none.
    `then` is for `StreamedTextEncoder.encode`.

    Raises `EngineError` (`REFUSED`) where they leave no position for any prompt.
    """
    before, after = _template(len(pictures))
    dropped = _dropped(tokenizer, before)
    head, tail = _tokens(tokenizer, before), _tokens(tokenizer, after)
    taken = sum(_LATENTS * max(one.rows, one.columns) for one in pictures)
    most = QwenImage21Unit_PromptEmbedder.max_text_positions
    # The picture that is drawn has a position of its own.
    words = len(head) - len(pictures) - dropped + len(tail)
    room = most - 1 - taken - words
    if room < 1:
        raise EngineError(
            EngineErrorKind.REFUSED,
            f"{taken} positions of pictures",
            sentence=mark(
                "These pictures leave no room for a prompt (the model has {most} "
                "positions); please use fewer, smaller or less narrow ones."
            ),
            values={"most": str(most)},
        )
    picture: int = tokenizer.convert_tokens_to_ids(PICTURE)
    head, places, rows = with_pictures(head, picture, pictures)
    start = int(places.max()) + 1
    all_ids: list[Tensor] = []
    all_places: list[Tensor] = []
    for prompt in prompts:
        # Control tokens on both sides part the prompt from the rest: read alone, it is the same.
        rest = _tokens(tokenizer, prompt or " ")
        rest = [*rest[:room], *tail]
        all_ids.append(torch.tensor([*head, *rest]))
        # Unlike without pictures, what is left out leaves no gap: so has transformers it.
        text = torch.arange(start, start + len(rest)).expand(3, -1)
        all_places.append(torch.cat([places, text], 1))
    seen = Insertion(rows, torch.cat([one.states for one in pictures]))
    states = encoder.encode(all_ids, then, all_places, [seen] * len(all_ids))
    words_only = [ids != picture for ids in all_ids]
    return [
        state[dropped:][kept[dropped:].to(state.device)]
        for state, kept in zip(states, words_only, strict=True)
    ]


def places_21(tokenizer: Any, pictures: int) -> tuple[int, ...]:
    """Return for each of so many pictures how many tokens of a prompt's stand in front of it."""
    before, _ = _template(pictures)
    picture: int = tokenizer.convert_tokens_to_ids(PICTURE)
    ids = _tokens(tokenizer, before)[_dropped(tokenizer, before) :]
    at = [index for index, token in enumerate(ids) if token == picture]
    return tuple(index - number for number, index in enumerate(at))


def _template(pictures: int) -> tuple[str, str]:
    """Return what comes before and after a prompt with so many pictures."""
    before, _, after = QwenImage21Unit_PromptEmbedder.prompt_template_t2i.partition("{}")
    named = (_NAMED.format(number) for number in range(1, pictures + 1))
    return before + " ".join(named), after


def _dropped(tokenizer: Any, before: str) -> int:
    """Return the number of tokens of the system's turn, which no picture is drawn from."""
    return len(_tokens(tokenizer, before[: before.index(_USER)]))


def _tokens(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids
