"""Keys and values of what comes before a picture in every block, read once and kept for the next.

That is a prompt with the references in their places among its words.
"""

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


class PrefixPart(NamedTuple):
    """Words or a reference as the blocks take them, [tokens, dim]; a reference is seen `whole`."""

    tokens: Tensor
    whole: bool


class _Read(NamedTuple):
    prompt: Tensor
    prefix: Prefix


class Prefixes:
    """Those of the last generation's prompts: a reroll or another schedule reads none anew.

    They depend on the prompt, the references and how blocks are computed, and on nothing of the
    picture.
    """

    def __init__(self) -> None:
        self._kept: list[_Read] = []
        self._state: tuple[Any, ...] = ()
        self._references: Sequence[Tensor] = ()

    def of(
        self,
        inputs: Inputs,
        weights: WeightStore,
        parts: Callable[[Tensor], list[PrefixPart]],
        modulation: Tensor,
        ropes: Sequence[Tensor],
    ) -> tuple[Prefix, ...]:
        """Return those of each prompt in `inputs`, after one pass for all that are not kept.

        `parts` makes a prompt what the blocks take, in order, `modulation` [4, dim] is that of
        timestep 0, and `ropes` turn each prompt's tokens, the references' with them.
        """
        # What is not used any more leaves the card before there is more.
        self.forget(inputs)
        reads = [_found(self._kept, prompt) for prompt in inputs.prompts]
        missing = [branch for branch, read in enumerate(reads) if read is None]
        passing = {branch: parts(inputs.prompts[branch]) for branch in missing}
        found: dict[int, list[KeysValues]] = {branch: [] for branch in missing}
        if missing:
            weights.begin("block")
        for index in range(inputs.kernel.geometry.layers if missing else 0):
            with weights.block(index, inputs.additions, wide=inputs.wide) as bound:
                for branch in missing:
                    block = inputs.kernel, modulation, bound
                    found[branch].append(_through(block, passing[branch], ropes[branch]))
        for branch, blocks in found.items():
            reads[branch] = _Read(inputs.prompts[branch], tuple(blocks))
        self._kept = [read for read in reads if read is not None]
        return tuple(read.prefix for read in self._kept)

    def forget(self, but_for: Inputs | None = None) -> None:
        """Drop what is kept, but for what a generation of these inputs would use."""
        if but_for is None:
            self._kept, self._references = [], ()
            return
        inputs = but_for
        state = (inputs.loras, inputs.kernel, inputs.wide, inputs.places)
        same = self._state == state and _equal(self._references, inputs.references)
        kept = self._kept if same else []
        reads = (_found(kept, prompt) for prompt in inputs.prompts)
        self._kept, self._state = [read for read in reads if read is not None], state
        self._references = tuple(inputs.references)


def _through(block: tuple[Any, Tensor, Any], parts: list[PrefixPart], rope: Tensor) -> KeysValues:
    """Take `parts` through a block (its kernel, modulation and weights), one after the other.

    So the block holds one part's activations at a time. The parts are replaced.
    """
    kernel, modulation, weights = block
    shape = len(rope), kernel.geometry.heads, kernel.geometry.head_dim
    first = parts[0].tokens
    read = KeysValues(*(first.new_empty(shape) for _ in KeysValues._fields))
    start = 0
    for place, part in enumerate(parts):
        turns = rope[start : start + len(part.tokens)]
        tokens = read_prefix(
            kernel, part.tokens, modulation, weights, turns, read, start, whole=part.whole
        )
        parts[place] = part._replace(tokens=tokens)
        start += len(tokens)
    return read


def _equal(kept: Sequence[Tensor], given: Sequence[Tensor]) -> bool:
    pairs = zip(kept, given, strict=False)
    return len(kept) == len(given) and all(
        one is other or (one.shape == other.shape and torch.equal(one, other))
        for one, other in pairs
    )


def _found(kept: Sequence[_Read], prompt: Tensor) -> _Read | None:
    same = (read for read in kept if read.prompt is prompt or torch.equal(read.prompt, prompt))
    return next(same, None)
