"""Choosing the next token of a text that is written: the likeliest one, or one by chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

Choose = Callable[[Tensor], int]
"""Takes logits [words] in float32 and returns an id."""
# Holtzman et al., "The Curious Case of Neural Text Degeneration" (arXiv:1904.09751): what is less
# likely than all these together is noise.
_NUCLEUS: Final = 0.9
_MOST: Final = 1024
"""Ids that are looked at: sorting all of a vocabulary takes as long as a token's whole pass."""


def likeliest(logits: Tensor) -> int:
    """Return the id with the largest logit, the first of several."""
    return int(logits.argmax())


class Sampler:
    """A `Choose` by chance, the same for the same `seed`, among the likeliest nine tenths.

    `temperature` is more than 0; the larger, the more evenly it chooses.
    """

    def __init__(self, temperature: float, seed: int) -> None:
        self._temperature = temperature
        # On the CPU, whose numbers are the same on every machine.
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, logits: Tensor) -> int:
        """See `Choose`."""
        scaled = logits.double() / self._temperature
        best = scaled.topk(min(_MOST, len(scaled)))
        shares = (best.values - scaled.logsumexp(0)).exp().cpu()
        before = shares.cumsum(0) - shares
        kept = shares.where(before < _NUCLEUS, 0.0)
        return int(best.indices[torch.multinomial(kept, 1, generator=self._generator)])


def chooser(temperature: float, seed: int) -> Choose:
    """Return the way to choose; at a temperature of 0 it is the likeliest."""
    return likeliest if temperature <= 0 else Sampler(temperature, seed)
