"""What passes through the transformer: what a request shares, and one visit's activations."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bot.engine.stream.budget import Work
from bot.engine.stream.modulation import Table


@dataclass(frozen=True, slots=True)
class Generation:
    """What all steps of one request share. `texts` has one [tokens, dim] a guidance branch."""

    work: Work
    texts: tuple[Tensor, ...]
    image_rope: Tensor
    text_ropes: tuple[Tensor, ...]
    table: Table


@dataclass(slots=True)
class Unit:
    """What goes through a block at once: branches of one picture."""

    image: Tensor
    texts: list[Tensor]
    ropes: list[Tensor]
