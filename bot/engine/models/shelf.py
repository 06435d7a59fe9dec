"""Networks by what they are made of: those in use, and those that wait in main memory.

Models share what is the same, such as a text encoder that two of them publish, and a switch back
to a model that waits only copies it over the bus.
"""

from __future__ import annotations

import gc
import logging
import sys
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bot.engine.card_budget import GIB, CardBudget
from bot.engine.host_memory import RESERVE, available_memory
from bot.errors import EngineError

if TYPE_CHECKING:
    from bot.engine.stream.offload import Offloadable  # imports torch

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Content:
    """What a network is made of: its kind ("transformer"), and a digest of its weights."""

    kind: str
    digest: str


Recipe = tuple[Content, Content, Content]
"""A model's transformer, text encoder (with its tokenizer) and VAE."""


class NetworkShelf:
    """Holds the networks of the models that were drawn with.

    Those that wait in main memory take `keep_gib` GiB at most (None: as much as there is room for),
    and leave `RESERVE` of it free; the ones used least lately go first. `available` tells how many
    bytes of main memory are free, None where it cannot be told: then only a number keeps anything.
    """

    def __init__(
        self,
        keep_gib: float | None,
        *,
        several: bool = True,
        available: Callable[[], int | None] = available_memory,
    ) -> None:
        self._limit = None if keep_gib is None else int(keep_gib * GIB)
        self._keeps = several and keep_gib != 0
        self._available = available
        self._recipes: dict[str, Recipe] = {}
        self._used: dict[Content, Offloadable] = {}
        self._waiting: dict[Content, Offloadable] = {}
        self.kernels: Any = None
        """What the process has compiled (a `KernelSet`), once something was loaded."""

    @property
    def waiting_bytes(self) -> int:
        """How much main memory is taken by networks that are not in use."""
        return sum(network.bytes for network in self._waiting.values())

    def recipe(self, model: str) -> Recipe | None:
        """Return what `model` is made of, if all of that is here; else it has to be loaded."""
        recipe = self._recipes.get(model)
        whole = recipe and all(one in self._used or one in self._waiting for one in recipe)
        return recipe if whole else None

    def note(self, model: str, recipe: Recipe) -> None:
        """Remember what `model` is made of."""
        self._recipes[model] = recipe

    def settle(self, wanted: Collection[Content]) -> None:
        """Have nothing in use but what is `wanted`; the rest waits in main memory, or is dropped.

        To be called before anything is loaded, so that the card never holds two.
        """
        for content in [one for one in self._used if one not in wanted]:
            self._make_way(content, wanted)
            if not self._waits(content):
                self._drop(self._used, content)
        _give_back()

    def take(self, content: Content, budget: CardBudget | None) -> Any:
        """Return the network of this content, in use from now on; None where it is not here.

        One that waited returns to the card within `budget`, and is lost where that fails.
        """
        if (waiting := self._waiting.pop(content, None)) is not None:
            waiting.onload(budget)
            self._used[content] = waiting
        found = self._used.get(content)
        return None if found is None else found.network

    def add(self, content: Content, network: Offloadable) -> None:
        """Take over a network that was loaded, and is in use; one like it that waits is dropped."""
        if content in self._waiting:  # What it is made of was not known before.
            self._drop(self._waiting, content)
        self._used[content] = network

    def make_room(self, size: int) -> bool:
        """Drop what waits until `size` more bytes of main memory have room; tell whether they do.

        Also for a model that is loaded: tell whether it may be in main memory as a whole.
        """
        while not (fits := self._has_room(size)) and self._waiting:
            self._drop(self._waiting, next(iter(self._waiting)))
        return fits

    def may_copy(self, size: int) -> bool:
        """Tell whether a model of `size` bytes may be in main memory as a whole while it is drawn.

        So its blocks on the card need no copying back when another model is switched to, for which
        there has to be as much room again, where none waits yet.
        """
        limited = self._limit is not None and size > self._limit
        other = 0 if self._waiting else size
        return self._keeps and not limited and self._has_room(size + other)

    def _has_room(self, size: int) -> bool:
        available = self._available()
        if available is None:
            return self._limit is not None
        return available - RESERVE >= size

    def _make_way(self, content: Content, wanted: Collection[Content]) -> None:
        """Drop what waits, and is not `wanted`, until a network in use may wait too."""
        others = [one for one in self._waiting if one not in wanted]
        while others and not self._may_wait(self._used[content]):
            self._drop(self._waiting, others.pop(0))

    def _waits(self, content: Content) -> bool:
        """Move a network to main memory; False where that has no room for it."""
        network = self._used[content]
        if not self._may_wait(network):
            return False
        try:
            network.offload()
        except (MemoryError, RuntimeError, EngineError) as error:
            log.warning("The %s cannot stay in main memory: %s", content.kind, error)
            return False
        self._waiting[content] = self._used.pop(content)
        return True

    def _may_wait(self, network: Offloadable) -> bool:
        limit = self._limit
        limited = limit is not None and self.waiting_bytes + network.bytes > limit
        return self._keeps and not limited and self._has_room(network.to_copy)

    @staticmethod
    def _drop(held: dict[Content, Offloadable], content: Content) -> None:
        gone = weakref.ref(held[content].network)
        del held[content]
        if gone() is not None:  # Something points at it that points back.
            gc.collect()
        log.info("The %s left the card and main memory.", content.kind)


def _give_back() -> None:
    """Give unused memory of the card back to the driver."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
