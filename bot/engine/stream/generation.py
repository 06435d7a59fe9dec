"""A double stream's generations: what all steps of a request share, and what visits a block."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from bot.engine.stream.block import Still
from bot.engine.stream.budget import Work
from bot.engine.stream.pinned import HostBuffer


class Table:
    """One schedule's modulation, in main memory as [steps, layers * 12 + 2, dim].

    Where references are modulated as at timestep 0, that is one more step, the last.
    """

    def __init__(self, buffer: HostBuffer, values: Tensor) -> None:
        self._buffer = buffer  # owns the memory that `values` looks at
        self.values = values


class StillBlocks(NamedTuple):
    """Every block's `Still`: rows [layers, 6, dim], and the one rope of all reference tokens."""

    rows: Tensor
    rope: Tensor

    def of(self, index: int) -> Still:
        """Return block `index`'s."""
        return Still(self.rows[index], self.rope)


@dataclass(frozen=True, slots=True)
class DoubleGeneration:
    """What all steps of one request share. `texts` has a [tokens, dim] per guidance branch.

    `references` [tokens, 64] are the patches of all reference pictures, which follow the target's
    in every picture. `still` is there where timestep 0 modulates them: then `image_rope` turns the
    target's tokens alone.
    """

    work: Work
    texts: tuple[Tensor, ...]
    image_rope: Tensor
    text_ropes: tuple[Tensor, ...]
    table: Table
    references: Tensor | None = None
    still: StillBlocks | None = None

    @property
    def structure(self) -> Hashable:
        """See `Generation`."""
        return self.still is not None


@dataclass(slots=True)
class Unit:
    """What goes through a block at once: branches of one picture."""

    image: Tensor
    texts: list[Tensor]
    ropes: list[Tensor]


def to_patches(latents: Tensor, patch: int = 2) -> Tensor:
    """Return [pictures, tokens, channels * patch**2] of [pictures, channels, height, width]."""
    grid = latents.unflatten(2, (-1, patch)).unflatten(4, (-1, patch))
    return grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def from_patches(patches: Tensor, height: int, width: int, patch: int = 2) -> Tensor:
    """Return [pictures, channels, height, width] of [pictures, tokens, channels * patch**2]."""
    grid = patches.unflatten(1, (height // patch, width // patch))
    grid = grid.unflatten(-1, (-1, patch, patch))
    return grid.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
