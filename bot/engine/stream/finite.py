"""Numbers that are none (NaN, infinite): they would become a picture, and an all-black one."""

from __future__ import annotations

from torch import Tensor


class NotFinite(ArithmeticError):
    """What the networks computed is no number: their arithmetic overflowed."""


def finite(values: Tensor) -> Tensor:
    """Return `values`; raise `NotFinite` where one of them is not finite. Waits for the device."""
    if not bool(values.isfinite().all()):
        raise NotFinite(f"{int((~values.isfinite()).sum())} of {values.numel()} numbers")
    return values
