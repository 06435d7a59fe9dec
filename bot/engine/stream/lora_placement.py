"""The LoRAs in use: their additions on the device, and in the layers around the blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bot.engine.stream import lora
from bot.engine.stream.device import Device
from bot.engine.stream.execution import Execution
from bot.engine.stream.network import TransformerNetwork
from bot.engine.stream.residency import Residency
from bot.engine.stream.weights import WeightStore


class LoraPlacement:
    """Switches LoRAs: `additions` holds what each block's matrices get, by block and piece."""

    def __init__(
        self,
        network: TransformerNetwork,
        device: Device,
        weights: WeightStore,
        execution: Execution,
        residency: Residency,
    ) -> None:
        self.additions: dict[tuple[int, str], lora.LowRank] = {}
        self._geometry = network.geometry
        self._device = device
        self._weights = weights
        self._execution = execution
        self._residency = residency
        self._patch = lora.OuterPatch(network.outer)
        self._loras: tuple[lora.Lora, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What tells the LoRAs in use from others, and from their other strengths."""
        return tuple(one.name for one in self._loras)

    @torch.no_grad()
    def use(self, loras: Sequence[lora.Lora]) -> None:
        """See `StreamedDiT.use`."""
        if tuple(one.name for one in loras) == self.names:
            return
        layouts = tuple(self._weights.layouts.values())
        self._patch.check(loras)
        ranks = lora.joined_ranks(loras, layouts, self._geometry.layers)
        self._patch.apply(())
        self._loras, self.additions, self._residency.lora_bytes = (), {}, 0
        settings, device = self._execution.settings, self._device.torch
        numbers = sum(rank * (piece.rows + piece.columns) for (_, piece), rank in ranks.items())
        size = numbers * settings.dtype.itemsize
        self._residency.keep(self._residency.plan(settings.usual, size).resident)
        try:
            self._patch.apply(loras)
            # One after another: all together they would take gigabytes of main memory.
            self.additions = {
                (index, piece.name): lora.join(loras, index, piece, settings.dtype, device)
                for index, piece in ranks
            }
        except BaseException:
            # Else the next job, which asks for none, would find them in the outer layers.
            self._patch.apply(())
            raise
        self._residency.lora_bytes = sum(t.nbytes for pair in self.additions.values() for t in pair)
        self._loras = tuple(loras)
