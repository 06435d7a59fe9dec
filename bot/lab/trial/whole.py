"""The whole engine without its weights: what it plans, and what waits in main memory.

The plan is the engine's own (`bot/engine/stream/budget.py`): a `StreamedDiT` without blocks, on the
CPU, is asked for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import torch

from bot.engine.card_budget import Bound, CardBudget
from bot.engine.models.streamed_card import USUAL_TEXT_TOKENS, transformer_settings
from bot.engine.models.streamed_networks import precision_of
from bot.engine.options import EngineOptions
from bot.engine.stream.budget import Work
from bot.engine.stream.device import Device
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.layout import Geometry, Precision
from bot.engine.stream.quantize import Matmul
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.storage import Storage
from bot.engine.stream.transformer import StreamedDiT
from bot.lab.step import random_weights
from bot.lab.trial import vae
from bot.lab.trial.family import TRIED

_NOTHING: Final = CardBudget(0, Bound.FREE, 0)


@dataclass(frozen=True, slots=True)
class Share:
    """How a budget is shared out: blocks that stay, and bytes of a step's copies."""

    blocks: int
    resident: int
    streamed_bytes: int

    @property
    def streamed(self) -> int:
        """Blocks that are fetched at each step."""
        return self.blocks - self.resident


@dataclass(frozen=True, slots=True)
class Whole:
    """The engine of a model at full size, or of a toy, without weights; sizes in bytes."""

    dit: StreamedDiT
    usual: Work
    """The picture that is tried: of the default size, with a branch or with both."""
    text_bytes: int
    """The text encoder's layers, which wait in pageable memory; its table comes on top."""
    table_bytes: int

    @classmethod
    def of(
        cls,
        options: EngineOptions,
        *,
        toy: bool,
        family: str = "qwen-image",
        guided: bool = True,
    ) -> Whole:
        """Return it for the precision of `options` and a `family` of the catalogue.

        `guided`: whether the picture that is tried has two branches.
        """
        tried = TRIED[family]
        subject = tried.subject
        storage = precision_of(options.precision).storage
        # On the CPU products with eight bits would be tried for minutes; `share` is told of them.
        precision = {Storage.FP8: Precision.FP8, Storage.INT8: Precision.INT8}.get(
            storage, Precision.PLAIN
        )
        if toy:
            geometry, width = subject.small, subject.small_text
            tokens = (11, 5) if guided else (11,)
            settings = TransformerSettings(dtype=torch.float32, usual=Work(128, 96, 1, tokens))
            text = table = 0
        else:
            geometry, width = subject.full, subject.text
            config = tried.streamed.text_config()
            dtype = torch.bfloat16
            encoder = StreamedTextEncoder(
                config, Device(), dtype, storage=storage, family=tried.streamed.text
            )
            layers = encoder.geometry.layers
            text = layers * encoder.layout.size
            table = config.vocab_size * config.hidden_size * dtype.itemsize
            settings = transformer_settings(
                options,
                _NOTHING,
                others=vae.weight_bytes(tried, dtype) + layers * encoder.layout.small_size,
                encoding=encoder.working_bytes(USUAL_TEXT_TOKENS),
                vae=tried.vae_kind,
                guided=guided,
            )
        settings = replace(
            settings, device="cpu", precision=precision, budget=None, compile=False, cache=None
        )
        cpu = torch.device("cpu")
        outer = random_weights.random_dit(
            geometry, width, cpu, settings.dtype, subject, blocks=False
        )
        made = StreamedDiT(outer, geometry, settings, subject.network)
        return cls(made, settings.usual, text, table)

    @property
    def geometry(self) -> Geometry:
        """The transformer's widths."""
        return self.dit.geometry

    @property
    def block_bytes(self) -> int:
        """What crosses the bus for a block."""
        return self.dit.layouts[0].size

    @property
    def modulation_bytes(self) -> int:
        """What crosses the bus for a new schedule, and waits in pageable memory."""
        layouts = self.dit.weights.layouts
        parts = (layout for kind, layout in layouts.items() if kind != "block")
        return self.geometry.layers * sum(layout.size for layout in parts)

    @property
    def reads_prompts(self) -> bool:
        """Whether a new prompt goes through all blocks once, before the steps."""
        return self.dit.network.kept_bytes(self.usual) > 0

    @property
    def pageable_bytes(self) -> int:
        """What waits in main memory whatever the budget is."""
        return self.text_bytes + self.table_bytes + self.modulation_bytes

    def share(
        self,
        budget: int | None,
        *,
        compiled: bool,
        matmul: Matmul = Matmul.WEIGHT_ONLY,
        work: Work | None = None,
        lora_bytes: int = 0,
    ) -> Share:
        """Return how the engine shares out `budget` bytes for `work` (None: the usual picture).

        Raises `EngineError` (`OUT_OF_MEMORY`) where the budget has no room for it.
        """
        dit = self.dit
        execution = dit.execution
        execution.settings = replace(execution.settings, budget=budget)
        execution.matmul = matmul
        execution.kernels.compiled = compiled
        plan = dit.residency.plan(self.usual if work is None else work, lora_bytes)
        blocks = self.geometry.layers
        streamed = blocks - len(plan.resident)
        return Share(blocks, len(plan.resident), streamed * self.block_bytes)

    def room(self, budget: int | None) -> int | None:
        """Return the bytes that the VAE may take for the usual picture; None: plenty."""
        if budget is None:
            return None
        execution = self.dit.execution
        execution.settings = replace(execution.settings, budget=budget)
        return self.dit.plan(self.usual).working
