"""The resident blocks: which of them stay on the device, within the budget in bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bot.engine.stream.budget import GIB, Fixed, Plan, Work, plan, slack, spread
from bot.engine.stream.device import Device
from bot.engine.stream.execution import Execution
from bot.engine.stream.network import TransformerNetwork
from bot.engine.stream.too_large import for_others
from bot.engine.stream.weights import WeightStore
from bot.errors import EngineError

# The driver and a desktop at rest hold less.
_FOREIGN_SHOWN: Final = GIB
_NOTICED: Final = GIB // 4


class Residency:
    """Decides which blocks stay on the device, and evicts and brings back until it is so.

    Blocks that had to give way stay off the device until the next job, or for some jobs where they
    left for a driver that pages in silence: there what is free says nothing.
    """

    def __init__(
        self,
        network: TransformerNetwork,
        device: Device,
        weights: WeightStore,
        execution: Execution,
    ) -> None:
        self.lora_bytes = 0
        """What the additions of the LoRAs in use take on the device."""
        self._network = network
        self._geometry = network.geometry
        self._device = device
        self._weights = weights
        self._execution = execution
        self._withheld = 0
        self._paging = False

    def plan(self, work: Work, lora_bytes: int | None = None) -> Plan:
        """Return how the budget would be shared for `work`; see `budget.plan`.

        `lora_bytes` is what the LoRAs take, those in use unless it is given.

        Raises `EngineError` (`OUT_OF_MEMORY`) where the budget has no room for `work`.
        """
        if lora_bytes is None:
            lora_bytes = self.lora_bytes
        settings, weights = self._execution.settings, self._weights
        element = settings.dtype.itemsize
        block = weights.layouts["block"]
        others = [each for kind, each in weights.layouts.items() if kind != "block"]
        widened = block.quantized and self._execution.wide
        fixed = Fixed(
            block=block.size,
            slot=max(each.size for each in (block, *others)),
            scratch=block.elements * element if widened else 0,
            small=self._network.size + weights.small_size,
            hole=self._device.hole,
            others=settings.others,
            others_working=max(
                settings.others_working, *(each.elements * element for each in others), 0
            ),
        )
        try:
            return plan(
                work,
                self._geometry,
                fixed,
                settings.budget,
                element,
                compiled=self._execution.compiled,
                lora_bytes=lora_bytes,
                most=weights.most if weights.complete else 0,
                peak=self._network.peak,
                kept=self._network.kept_bytes,
                sizes=settings.references,
            )
        except EngineError as error:
            if settings.foreign < _FOREIGN_SHOWN:
                raise
            raise for_others(error, settings.foreign) from None

    def adapt(self, budget: int, foreign: int) -> None:
        """Share out another budget from now on; blocks that it has no room for leave at once.

        `foreign` bytes of the card belong to others, where that bounds the budget. A change of
        less than a quarter of a gibibyte is let be: moving blocks for it would cost more.
        """
        before = self._execution.settings.budget
        if before is not None and abs(budget - before) < _NOTICED:
            return
        self._execution.settings = replace(self._execution.settings, budget=budget, foreign=foreign)
        try:
            wanted = self.plan(self._execution.settings.usual).resident
        except EngineError:  # a smaller picture may have room
            wanted = frozenset[int]()
        if len(wanted) < len(self._weights.resident):
            self.keep(wanted)

    def return_to(self, budget: int | None, foreign: int) -> None:
        """Bring back as many blocks as `budget` has room for, after all had left the device.

        None: every block. Nothing is withheld any more.
        """
        self._withheld, self._paging = 0, False
        settings = replace(self._execution.settings, budget=budget, foreign=foreign)
        self._execution.settings = settings
        try:
            wanted = self.plan(settings.usual).resident
        except EngineError:  # a smaller picture may have room
            wanted = frozenset[int]()
        self.keep(wanted)

    def begin_job(self) -> None:
        """Let blocks come back that gave way during the job before."""
        self._withheld = self._withheld // 2 if self._paging else 0
        self._paging = self._withheld > 0

    def keep(self, wanted: frozenset[int]) -> None:
        """Evict and bring back blocks until `wanted` are resident, or as many as have room."""
        if self._withheld:
            wanted = spread(max(0, len(wanted) - self._withheld), self._geometry.layers)
        self._weights.keep(wanted, scratch=self._execution.wide)

    def make_room(self, work: Work) -> Plan:
        """Evict or bring back blocks until the resident set is the one planned for `work`.

        Raises `EngineError` (`OUT_OF_MEMORY`) where the budget has no room for `work`.
        """
        wanted = self.plan(work)
        self.keep(wanted.resident)
        return wanted

    def lend(self, needed: int, copies: int | None = None) -> int | None:
        """Let blocks leave the device until `needed` bytes of the budget are free, or all have.

        At most `copies` bytes are copied to main memory for that; None: as many as it takes.
        Returns how many bytes are free then; None where there is no bound. The blocks come back by
        `take_back`.
        """
        settings, weights = self._execution.settings, self._weights
        if settings.budget is None:
            return None
        block = weights.layouts["block"].size
        overhead = self._network.size + weights.small_size + settings.others + self.lora_bytes
        overhead += slack(settings.budget) + weights.most * self._device.hole
        room = settings.budget - overhead
        resident = sorted(weights.resident)
        wanted = max(0, room - needed) // block
        leaving = max(0, len(resident) - wanted)
        flat = sum(each.size for each in weights.layouts.values()) * self._geometry.layers
        if copies is not None and flat - weights.host_bytes > copies:
            leaving = min(leaving, copies // block)
        staying = len(resident) - leaving
        weights.keep(frozenset(resident[:staying]), scratch=False, rests=True)
        return room - staying * block

    def take_back(self) -> None:
        """Bring back what `lend` let go."""
        try:
            wanted = self.plan(self._execution.settings.usual).resident
        except EngineError:  # a smaller picture may have room
            wanted = frozenset[int]()
        self.keep(wanted)

    def give_way(self, *, paging: bool = False) -> bool:
        """Let a twentieth of the blocks leave the device until the next job; False: none is there.

        `paging`: for a driver that pages, and so for some jobs.
        """
        resident = sorted(self._weights.resident)
        if not resident:
            return False
        self._device.release_cache()
        leaving = max(1, self._geometry.layers // 20)
        left = frozenset(resident[:-leaving])
        self._weights.keep(left, scratch=self._execution.wide)
        self._withheld += len(resident) - len(left)
        self._paging = self._paging or paging
        return True
