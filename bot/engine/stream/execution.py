"""The way blocks are computed: settings in force, matrix products, compiled or plain code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import torch

from bot.engine.stream.compiling import Kernels, KernelSet
from bot.engine.stream.device import Device
from bot.engine.stream.int8_probe import probe_int8_matmul
from bot.engine.stream.layout import Precision
from bot.engine.stream.network import TransformerNetwork
from bot.engine.stream.quantize import Matmul, probe_fp8_matmul
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.weights import WeightStore

_Probe = Callable[[list[tuple[int, int]], torch.device], Matmul]
_PROBES: Final[dict[Precision, _Probe]] = {
    Precision.FP8_FAST: probe_fp8_matmul,
    Precision.INT8_FAST: probe_int8_matmul,
}


class Execution:
    """What can be changed between two pictures without loading the weights anew.

    `matmul` is how products with quantised weights run; `kernels` are compiled or plain code.
    """

    def __init__(
        self,
        network: TransformerNetwork,
        settings: TransformerSettings,
        device: Device,
        weights: WeightStore,
        kernels: KernelSet | None = None,
    ) -> None:
        self.settings = settings
        self.matmul = Matmul.WEIGHT_ONLY
        self._network = network
        self._device = device
        self._weights = weights
        self._made = KernelSet() if kernels is None else kernels
        self._probed: Matmul | None = None
        self.kernels = self._kernels_for(settings.compile)
        self.configure(settings.budget, settings.precision, compiled=settings.compile)

    def configure(self, budget: int | None, precision: Precision, *, compiled: bool) -> None:
        """See `StreamedDiT.configure`."""
        assert precision.storage is self.settings.precision.storage
        self.settings = replace(self.settings, budget=budget, precision=precision, compile=compiled)
        self.kernels = self._kernels_for(compiled)
        self._weights.widen = self.kernels.widen
        self.matmul = Matmul.WEIGHT_ONLY
        probe = _PROBES.get(precision)
        if probe is not None:
            if self._probed is None:
                pieces = self._weights.layouts["block"].pieces
                shapes = {(piece.rows, piece.columns) for piece in pieces}
                self._probed = probe(sorted(shapes), self._device.torch)
            self.matmul = self._probed

    def _kernels_for(self, wanted: bool) -> Kernels:
        # Both kinds are kept: what one has compiled is there when it is switched back on.
        return self._made.of(
            self._network.block, self._device.torch, wanted=wanted, cache=self.settings.cache
        )

    @property
    def compiled(self) -> bool:
        """Whether blocks are compiled, or are to be."""
        return self.kernels.compiled

    @property
    def uncompiled(self) -> str | None:
        """Why blocks are not compiled, for people; None where they are, or are to be."""
        return self.kernels.uncompiled if self.settings.compile else "IMAGE_COMPILE=false"

    @property
    def precision(self) -> str:
        """How blocks are really computed, as a value of IMAGE_PRECISION."""
        storage = self.settings.precision.storage
        if not storage.quantized:
            return "bf16"
        # Where the fast products do not work, weights are widened.
        return str(storage) if self.wide else f"{storage}-fast"

    @property
    def wide(self) -> bool:
        """Whether quantised weights are widened for each visit of a block."""
        return self.matmul is Matmul.WEIGHT_ONLY

    @property
    def kernel(self) -> Any:
        """What the block's code is specialised on at the moment."""
        return self._network.kernel(self.matmul)
