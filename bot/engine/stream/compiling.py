"""Compiled versions of the block and of the widening of weights, where there is a compiler."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from bot.engine.stream.lacking import lacking_to_compile
from bot.engine.stream.quantize import dequantize_bytes
from bot.engine.stream.storage import dequantize

log = logging.getLogger(__name__)

Widen = Callable[[Tensor, Tensor, Tensor], None]
_VARIANTS: Final = 32


class Kernels:
    """`block` and `widen`, compiled or as they stand.

    torch compiles when they first meet another structure, on the thread that calls them: see
    `BlockCompiler`. What fails to compile, `block` or `widen`, is left alone from then on, with one
    warning; the other goes on.
    """

    def __init__(
        self,
        block: Callable[..., Any],
        device: torch.device,
        *,
        wanted: bool,
        cache: Path | None = None,
    ) -> None:
        lacking = lacking_to_compile(device) if wanted else None
        if lacking is not None:
            log.warning("Blocks are not compiled: %s is missing.", lacking)
        self.compiled = wanted and lacking is None
        """Whether blocks are compiled, or are to be."""
        self.uncompiled = None if lacking is None else f"{lacking} is missing"
        """Why blocks are not compiled; None where they are, or are to be."""
        self.block = self._plain = block
        self.widen: Widen = dequantize
        self.ready: set[Hashable] = set()
        """The structures that `block` is compiled for already."""
        if not self.compiled:
            return
        if cache is not None:
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
        dynamo: Any = torch._dynamo  # noqa: SLF001 - the limit has no public name
        # One graph for one branch, two branches, each with and without additions …
        dynamo.config.recompile_limit = max(_VARIANTS, dynamo.config.recompile_limit)
        self.block = self._guarded(torch.compile(block, fullgraph=True), block)
        widen = torch.compile(dequantize_bytes)

        def widen_bytes(quantized: Tensor, scale: Tensor, out: Tensor) -> None:
            if quantized.dtype is torch.int8:
                dequantize(quantized, scale, out)  # a kernel of its own, where there is one
                return
            widen(quantized.view(torch.uint8), scale, out)

        self.widen = self._guarded(widen_bytes, dequantize)

    def _guarded(self, compiled: Callable[..., Any], plain: Callable[..., Any]) -> Any:
        refused = False

        def call(*arguments: Any) -> Any:
            nonlocal refused
            if refused:
                return plain(*arguments)
            try:
                return compiled(*arguments)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - compilers fail in countless ways
                cause = _cause(error)
                log.warning("%s cannot be compiled, going on without: %s", plain.__name__, cause)
                refused = True
                if plain is self._plain:
                    self.compiled, self.uncompiled = False, cause
                return plain(*arguments)

        return call


class KernelSet:
    """The kernels of one process: transformers of a kind share what one of them has compiled."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Kernels] = {}

    def of(
        self,
        block: Callable[..., Any],
        device: torch.device,
        *,
        wanted: bool,
        cache: Path | None = None,
    ) -> Kernels:
        """Return the kernels of `block`, made when they are first asked for; see `Kernels`."""
        key = (block, device, wanted)
        if key not in self._made:
            self._made[key] = Kernels(block, device, wanted=wanted, cache=cache)
        return self._made[key]


def _cause(error: Exception) -> str:
    """Return an error's type and the last line that names one: a worker's whole story is longer."""
    lines = [line.strip() for line in str(error).replace("\\n", "\n").splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line or "error:" in line]
    return f"{type(error).__name__}: {(named or lines or [''])[-1]}"
