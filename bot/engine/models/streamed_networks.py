"""Networks of a streamed model, loaded: what the module of any family hands to the backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bot.engine.card_budget import CardBudget
from bot.engine.child.references import SizesOf
from bot.engine.files.find import AUTO
from bot.engine.options import LoadProgress
from bot.engine.protocol import CardUse
from bot.engine.stream import budget as budgets
from bot.engine.stream.decode import PictureCodec
from bot.engine.stream.layout import Precision
from bot.engine.stream.prompts import PromptEmbedder
from bot.engine.stream.transformer import StreamedDiT


@dataclass(slots=True)
class Networks:
    """What a generation needs; `device_name` is for people.

    `measure` says how much of the card there is at the moment; None: the budget stays as it is.
    `budget` is what it said last. `references` says in which sizes the model sees pictures that an
    instruction speaks of; None: it sees none. `load_writer` has the text encoder write from then
    on, and see pictures where it is told so; None: it does already, or cannot.
    """

    dit: StreamedDiT
    embedder: PromptEmbedder
    codec: PictureCodec
    device_name: str
    measure: Callable[[], CardBudget] | None = None
    budget: CardBudget | None = None
    references: SizesOf | None = None
    load_writer: Callable[[LoadProgress, bool], None] | None = None

    def release(self) -> None:
        """Let go of one another, so that those which other models use keep nothing of the rest."""
        self.codec.give_way = lambda: False

    def adapt(self) -> None:
        """Let the budget follow the card, before a job."""
        if self.measure is not None:
            self.budget = self.measure()
            self.dit.residency.adapt(self.budget.bytes, self.budget.held_by_others)

    def card_use(self) -> CardUse:
        """Return how the card is used at the moment."""
        dit = self.dit
        pinned, wanted = dit.weights.pinned_bytes
        return CardUse(
            budget=dit.settings.budget,
            bound="" if self.budget is None else self.budget.bound.value,
            foreign=0 if self.budget is None else self.budget.held_by_others,
            blocks=dit.geometry.layers,
            resident=len(dit.resident),
            pinned=pinned,
            pin_wanted=wanted,
            pin_refused=dit.device.refuses_pinning,
            uncompiled=dit.execution.uncompiled,
            precision=dit.execution.precision,
        )

    def room(self, work: budgets.Work) -> int | None:
        """Return the bytes that the VAE may take while the transformer rests; None: plenty.

        Raises `EngineError` (`OUT_OF_MEMORY`) where the budget has no room for the pictures.
        """
        return None if self.dit.settings.budget is None else self.dit.plan(work).working


def precision_of(name: str) -> Precision:
    """Return the precision that the setting's value names; for `auto` the one it starts from."""
    if name == AUTO:
        return Precision.INT8
    return Precision.PLAIN if name == "bf16" else Precision(name)
