"""Which of a pipeline's networks stay on the card between their turns.

DiffSynth brings a network to the card for its turn and takes it back to main memory after it, both
by copying its weights, at every picture. Here those stay that the card has room for, beside what
the picture takes; a weight is in one place at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from diffsynth.core.vram.layers import AutoTorchModule

from bot.engine.card_budget import GIB, CardBudget

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CardTurn:
    """Networks that work in one stage of a picture, and the bytes it takes beside their weights."""

    networks: tuple[str, ...]
    working: int


Turns = Callable[[int, int], Sequence[CardTurn]]
"""(width, height in pixels) -> the turns of such a picture."""


def staying(sizes: Mapping[str, int], turns: Sequence[CardTurn], budget: int) -> frozenset[str]:
    """Return the names of the networks that stay: those beside which every turn has room.

    `sizes` are bytes of weights by name, `budget` bytes. The largest has the first choice: it
    takes longest to move. At any turn the card holds what stays, the networks whose turn it is and
    what they work with. A turn that has no room of its own lets none stay.
    """
    kept: set[str] = set()
    for name in sorted(sizes, key=lambda each: sizes[each], reverse=True):
        held = ({*kept, name, *turn.networks} for turn in turns)
        taken = (sum(sizes[one] for one in names) for names in held)
        if all(size + turn.working <= budget for size, turn in zip(taken, turns, strict=True)):
            kept.add(name)
    return frozenset(kept)


class NetworksOnCard:
    """Takes DiffSynth's `load_models_to_device` over for the networks of a pipeline.

    `measure` returns what torch may take of the card at the moment, our weights there included.
    Networks that are brought to the card layer by layer use what there is of it by themselves:
    beside one of those none stays.
    """

    def __init__(self, pipe: Any, turns: Turns, measure: Callable[[], CardBudget]) -> None:
        self._turns = turns
        self._measure = measure
        self._stay: frozenset[str] = frozenset()
        self._sizes: dict[str, int] = {}
        self._stock_load = pipe.load_models_to_device
        pipe.load_models_to_device = self._load
        for turn in turns(0, 0):
            for name in turn.networks:
                network = getattr(pipe, name)
                self._sizes[name] = _bytes_of(network)
                for method in ("forward", "encode", "decode"):
                    if hasattr(network, method):
                        setattr(network, method, self._patient(getattr(network, method), turn))
        self._layered = any(_by_layer(getattr(pipe, name)) for name in self._sizes)

    @property
    def staying(self) -> frozenset[str]:
        """The names of those that stay on the card at present."""
        return self._stay

    def adapt(self, width: int, height: int) -> None:
        """Choose anew what stays, for a picture of this size in pixels and the card as it is.

        What no longer stays leaves the card with the picture's first turn.
        """
        budget = self._measure()
        turns = self._turns(width, height)
        stay = frozenset() if self._layered else staying(self._sizes, turns, budget.bytes)
        if stay != self._stay:
            log.info(
                "Networks that stay on the card for %dx%d within %.1f GiB: %s",
                width, height, budget.bytes / GIB, ", ".join(sorted(stay)) or "none",
            )  # fmt: skip
        self._stay = stay

    def _load(self, names: Sequence[str]) -> None:
        self._stock_load((*names, *self._stay))

    def _patient(self, call: Callable[..., Any], turn: CardTurn) -> Callable[..., Any]:
        """Return `call`, which has what stays leave the card where its memory does not suffice."""

        def patient(*args: Any, **kwargs: Any) -> Any:
            try:
                return call(*args, **kwargs)
            except torch.OutOfMemoryError as error:
                if self._stay <= frozenset(turn.networks):
                    raise
                log.warning("What stays on the card makes way: %s", str(error).splitlines()[0])
            self._stay = frozenset()
            self._load(turn.networks)
            return call(*args, **kwargs)

        return patient


def _bytes_of(network: torch.nn.Module) -> int:
    return sum(
        tensor.numel() * tensor.element_size()
        for tensor in chain(network.parameters(), network.buffers())
    )


def _by_layer(network: torch.nn.Module) -> bool:
    """Tell whether its layers cross the bus one by one, each when it computes."""
    return any(
        isinstance(layer, AutoTorchModule)
        and torch.device(layer.onload_device) != torch.device(layer.computation_device)
        for layer in network.modules()
    )
