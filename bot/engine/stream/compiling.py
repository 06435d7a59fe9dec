"""Compiled versions of the block and of the widening of weights, where a compiler is there."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from bot.engine.stream.block import Run, run_block
from bot.engine.stream.quantize import dequantize, dequantize_fused

logger = logging.getLogger(__name__)

Widen = Callable[[Tensor, Tensor, Tensor], None]
_VARIANTS: Final = 32


def can_compile(device: torch.device) -> bool:
    """Tell whether `torch.compile` has what it needs: a C compiler, and Triton for a GPU."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("cl")
    if compiler is None:
        return False
    if device.type == "cpu":
        return True
    return importlib.util.find_spec("triton") is not None


class Kernels:
    """`block` and `widen`: compiled if asked and possible, else as they stand.

    A compiler that fails at its first use is left alone from then on, with one warning.
    """

    def __init__(self, device: torch.device, *, wanted: bool, cache: Path | None = None) -> None:
        self.compiled = wanted and can_compile(device)
        self.block: Run = run_block
        self.widen: Widen = dequantize
        if not self.compiled:
            return
        if cache is not None:
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
        dynamo: Any = torch._dynamo  # noqa: SLF001 - the limit has no public name
        # One graph for one branch, two branches, each with and without additions …
        dynamo.config.recompile_limit = max(_VARIANTS, dynamo.config.recompile_limit)
        self.block = self._guarded(torch.compile(run_block, fullgraph=True), run_block)
        self.widen = self._guarded(torch.compile(dequantize_fused), dequantize)

    def _guarded(self, compiled: Callable[..., Any], plain: Callable[..., Any]) -> Any:
        failed = False

        def call(*arguments: Any) -> Any:
            nonlocal failed
            if failed:
                return plain(*arguments)
            try:
                return compiled(*arguments)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - compilers fail in countless ways
                logger.warning("torch.compile failed, going on without it: %r", error)
                failed, self.compiled = True, False
                return plain(*arguments)

        return call


def mark_lengths(image: Tensor, texts: list[Tensor], ropes: list[Tensor]) -> None:
    """Tell the compiler which sizes change from picture to picture: numbers of tokens."""
    dynamo: Any = torch._dynamo  # noqa: SLF001
    dynamo.maybe_mark_dynamic(image, 1)
    for tensor in (*texts, *ropes):
        dynamo.maybe_mark_dynamic(tensor, 0)
