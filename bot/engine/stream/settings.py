"""Settings of the streamed transformer: where its weights are kept, and in which form."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from bot.engine.child.references import SizesOf
from bot.engine.stream.budget import Work
from bot.engine.stream.layout import Precision
from bot.engine.stream.storage import Storage


@dataclass(frozen=True, slots=True)
class TransformerSettings:
    """Where and how weights are kept. `budget` in bytes; None keeps every block on the device.

    `foreign` bytes of the card belong to other programs, where that is what bounds the budget.

    `usual` is the picture that the resident set is chosen for at loading; a larger one evicts
    blocks for as long as it lasts. `others` and `others_working` are bytes of the budget that
    other networks take, always and while the transformer rests. `cache` is a folder for compiled
    code. In the sizes of `references` pictures of an edit are seen, where these depend on what is
    drawn: refusals name a smaller one.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.bfloat16
    precision: Precision = Precision.FP8
    modulation_quantized: bool = True
    budget: int | None = None
    foreign: int = 0
    compile: bool = False
    cache: Path | None = None
    usual: Work = field(default_factory=lambda: Work(1344, 768))
    others: int = 0
    others_working: int = 0
    references: SizesOf | None = None

    @property
    def modulation_storage(self) -> Storage:
        """How the modulation's weights are stored."""
        return self.precision.storage if self.modulation_quantized else Storage.PLAIN
