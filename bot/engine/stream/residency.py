"""The resident blocks: which of them stay on the device, within the budget in bytes."""

from __future__ import annotations

from bot.engine.stream.budget import Fixed, Plan, Work, plan
from bot.engine.stream.device import Device
from bot.engine.stream.execution import Execution
from bot.engine.stream.layout import Geometry
from bot.engine.stream.weights import WeightStore
from bot.errors import EngineError


class Residency:
    """Decides which blocks stay on the device, and evicts and brings back until it is so.

    `small` is what the layers around the blocks and a step's modulation take, in bytes.
    """

    def __init__(
        self,
        geometry: Geometry,
        device: Device,
        weights: WeightStore,
        execution: Execution,
        small: int,
    ) -> None:
        self.lora_bytes = 0
        """What the additions of the LoRAs in use take on the device."""
        self._geometry = geometry
        self._device = device
        self._weights = weights
        self._execution = execution
        self._small = small

    def plan(self, work: Work, lora_bytes: int | None = None, more: int | None = None) -> Plan:
        """Return how the budget would be shared for `work`; see `budget.plan`.

        `lora_bytes` is what the LoRAs take, those in use unless it is given; `more` what else
        needs room, what is being compiled unless it is given.

        Raises `EngineError` (`OUT_OF_MEMORY`) where the budget has no room for `work`.
        """
        if more is None:
            more = self._execution.compiling
        if lora_bytes is None:
            lora_bytes = self.lora_bytes
        settings, weights = self._execution.settings, self._weights
        element = settings.dtype.itemsize
        block, modulation = weights.layouts.values()
        widened = block.quantized and self._execution.wide
        fixed = Fixed(
            block=block.size,
            slot=max(block.size, modulation.size),
            scratch=block.elements * element if widened else 0,
            small=self._small + weights.small_size,
            hole=self._device.hole,
            others=settings.others + more,
            others_working=max(settings.others_working, modulation.elements * element),
        )
        return plan(
            work,
            self._geometry,
            fixed,
            settings.budget,
            element,
            compiled=self._execution.kernels.active,
            lora_bytes=lora_bytes,
            most=weights.most if weights.complete else 0,
        )

    def fits(self, work: Work, more: int | None = None) -> bool:
        """Tell whether the budget has room for `work`, with `more` bytes beside it; see `plan`."""
        try:
            self.plan(work, more=more)
        except EngineError:
            return False
        return True

    def keep(self, wanted: frozenset[int]) -> None:
        """Evict and bring back blocks until `wanted` are resident."""
        self._weights.keep(wanted, scratch=self._execution.wide)

    def make_room(self, work: Work) -> Plan:
        """Evict or bring back blocks until the resident set is the one planned for `work`.

        Raises `EngineError` (`OUT_OF_MEMORY`) where the budget has no room for `work`.
        """
        wanted = self.plan(work)
        self.keep(wanted.resident)
        return wanted

    def give_way(self) -> None:
        """Let a twentieth of the blocks leave the device until the next `make_room`."""
        self._device.release_cache()
        left = sorted(self._weights.resident)[: -max(1, self._geometry.layers // 20)]
        self.keep(frozenset(left))
