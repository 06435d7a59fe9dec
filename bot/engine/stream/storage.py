"""Forms in which a matrix is stored: as it is, or in eight bits with one scale a row."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from bot.engine.stream import int8, quantize


class Storage(StrEnum):
    """How the numbers of a matrix are kept."""

    PLAIN = "plain"
    """In the activations' type."""
    FP8 = "fp8"
    """e4m3."""
    INT8 = "int8"
    """Rotated along the input dimension; see `int8`."""

    @property
    def quantized(self) -> bool:
        """Whether a number takes one byte, and a row has a scale."""
        return self is not Storage.PLAIN

    @property
    def multiple(self) -> int:
        """What widths have to be divisible by."""
        return int8.GROUP if self is Storage.INT8 else 16

    def element(self, plain: torch.dtype) -> torch.dtype:
        """Return the type of the stored numbers; `plain` is the activations'."""
        return {Storage.FP8: quantize.FP8, Storage.INT8: torch.int8}.get(self, plain)

    def quantize_rows(self, weight: Tensor, gain: float) -> tuple[Tensor, Tensor]:
        """Round `weight` [rows, columns]; return it and its scales [rows], times `gain`."""
        if self is Storage.INT8:
            return int8.quantize_rows(weight, gain)
        return quantize.quantize_rows(weight, gain)


def dequantize(stored: Tensor, scale: Tensor, out: Tensor) -> None:
    """Write `stored` [chunks, width], times `scale` [chunks, 1], into `out` as it was before."""
    if stored.dtype is torch.int8:
        int8.dequantize(stored, scale, out)
    else:
        quantize.dequantize(stored, scale, out)
