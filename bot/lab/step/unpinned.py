"""An engine whose driver refuses to pin anything, for measuring what that costs."""

from __future__ import annotations

from typing import Any, Final

from bot.engine.options import EngineOptions

PIPELINE: Final = f"{__name__}:build"
_OUT_OF_MEMORY: Final = 2


def refuse(_buffer: Any) -> int:
    """Return CUDA's status for what it cannot give."""
    return _OUT_OF_MEMORY


def build(model: str, options: EngineOptions) -> Any:
    """Return the engine's own backend, where CUDA refuses each time."""
    from bot.engine.models.build import build as real  # noqa: PLC0415 - these import torch
    from bot.engine.stream import pinned  # noqa: PLC0415

    pinned.register = refuse
    return real(model, options)
