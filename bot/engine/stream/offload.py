"""Networks that leave the card for main memory while another model is drawn with, and return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import torch

from bot.engine.card_budget import CardBudget
from bot.engine.stream.decode import PictureCodec
from bot.engine.stream.moving import move
from bot.engine.stream.prompts import PromptEmbedder
from bot.engine.stream.transformer import StreamedDiT

_CPU: Final = torch.device("cpu")


class Offloadable(Protocol):
    """A loaded network that can wait in main memory."""

    @property
    def network(self) -> object:
        """The network itself."""
        ...

    @property
    def bytes(self) -> int:
        """What it takes of main memory while it waits there."""
        ...

    @property
    def to_copy(self) -> int:
        """How much of that is on the card alone at the moment."""
        ...

    def offload(self) -> None:
        """Leave the card altogether.

        Raises `MemoryError`, `RuntimeError` or `EngineError` where it cannot; then it is of no use.
        """
        ...

    def onload(self, budget: CardBudget | None) -> None:
        """Return to the card, within `budget` (None: all of it)."""
        ...


@dataclass(frozen=True, slots=True)
class OffloadableTransformer:
    """A transformer: its blocks' copies in main memory are kept, so that a return copies them."""

    network: StreamedDiT

    @property
    def bytes(self) -> int:
        """See `Offloadable`."""
        dit = self.network
        flat = sum(layout.size for layout in dit.layouts) * dit.geometry.layers
        return flat + dit.weights.small_size + dit.network.size

    @property
    def to_copy(self) -> int:
        """See `Offloadable`."""
        return self.bytes - self.network.weights.host_bytes

    def offload(self) -> None:
        """See `Offloadable`. Its LoRAs are put away."""
        dit = self.network
        dit.use(())
        dit.network.forget()
        dit.weights.offload()
        move(dit.network.outer, _CPU)
        dit.device.release_cache()

    def onload(self, budget: CardBudget | None) -> None:
        """See `Offloadable`. As many blocks return as `budget` has room for."""
        dit = self.network
        move(dit.network.outer, dit.device.torch)
        dit.weights.onload()
        if budget is None:
            dit.residency.return_to(None, 0)
        else:
            dit.residency.return_to(budget.bytes, budget.held_by_others)


@dataclass(frozen=True, slots=True)
class OffloadableEmbedder:
    """A text encoder with its tokenizer and the prompts that it remembers."""

    network: PromptEmbedder

    @property
    def bytes(self) -> int:
        """See `Offloadable`."""
        return self.network.encoder.host_bytes + self.to_copy

    @property
    def to_copy(self) -> int:
        """See `Offloadable`."""
        return self.network.encoder.small_bytes

    def offload(self) -> None:
        """See `Offloadable`."""
        self.network.encoder.move(_CPU)

    def onload(self, budget: CardBudget | None) -> None:
        """See `Offloadable`."""
        del budget
        self.network.encoder.move(self.network.encoder.device.torch)


@dataclass(frozen=True, slots=True)
class OffloadableCodec:
    """A VAE."""

    network: PictureCodec

    @property
    def bytes(self) -> int:
        """See `Offloadable`."""
        return self.network.weight_bytes

    @property
    def to_copy(self) -> int:
        """See `Offloadable`."""
        return self.bytes

    def offload(self) -> None:
        """See `Offloadable`."""
        self.network.move(_CPU)

    def onload(self, budget: CardBudget | None) -> None:
        """See `Offloadable`."""
        del budget
        self.network.move(self.network.device.torch)
