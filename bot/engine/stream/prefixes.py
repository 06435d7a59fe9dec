"""Prompts' keys and values in every block, read once a prompt and kept for its next pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bot.engine.stream.network import Inputs
from bot.engine.stream.single_block import KeysValues, read_prefix
from bot.engine.stream.weights import WeightStore

Prefix = tuple[KeysValues, ...]
"""A prompt's keys and values, by block."""


class _Read(NamedTuple):
    prompt: Tensor
    prefix: Prefix


class Prefixes:
    """Those of the last generation's prompts: a reroll or another schedule reads none anew.

    They depend on the prompt and on how blocks are computed, and on nothing of the picture.
    """

    def __init__(self) -> None:
        self._kept: list[_Read] = []
        self._state: tuple[Any, ...] = ()

    def of(
        self,
        inputs: Inputs,
        weights: WeightStore,
        tokens: Callable[[Tensor], Tensor],
        modulation: Tensor,
        ropes: Sequence[Tensor],
    ) -> tuple[Prefix, ...]:
        """Return those of each prompt in `inputs`, after one pass for all that are not kept.

        `tokens` makes the blocks' [tokens, dim] of a prompt, `modulation` [4, dim] is that of
        timestep 0, and `ropes` turn each prompt's tokens.
        """
        state = (inputs.loras, inputs.kernel, inputs.wide)
        kept = self._kept if self._state == state else []
        reads = [_found(kept, prompt) for prompt in inputs.prompts]
        # What is not used any more leaves the card before there is more.
        self._kept, self._state = [read for read in reads if read is not None], state
        missing = [branch for branch, read in enumerate(reads) if read is None]
        texts = {branch: tokens(inputs.prompts[branch]) for branch in missing}
        found: dict[int, list[KeysValues]] = {branch: [] for branch in missing}
        if missing:
            weights.begin("block")
        for index in range(inputs.kernel.geometry.layers if missing else 0):
            with weights.block(index, inputs.additions, wide=inputs.wide) as bound:
                for branch in missing:
                    texts[branch], read = read_prefix(
                        inputs.kernel, texts[branch], modulation, bound, ropes[branch]
                    )
                    found[branch].append(read)
        for branch, blocks in found.items():
            reads[branch] = _Read(inputs.prompts[branch], tuple(blocks))
        self._kept = [read for read in reads if read is not None]
        return tuple(read.prefix for read in self._kept)

    def forget(self) -> None:
        """Drop what is kept."""
        self._kept = []


def _found(kept: Sequence[_Read], prompt: Tensor) -> _Read | None:
    same = (read for read in kept if read.prompt is prompt or torch.equal(read.prompt, prompt))
    return next(same, None)
