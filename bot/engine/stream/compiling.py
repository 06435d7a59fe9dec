"""Compiled versions of the block and of the widening of weights, where there is a compiler."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from bot.engine.stream.block import Run, run_block
from bot.engine.stream.lacking import lacking_to_compile
from bot.engine.stream.quantize import dequantize_bytes
from bot.engine.stream.storage import dequantize

log = logging.getLogger(__name__)

Widen = Callable[[Tensor, Tensor, Tensor], None]
_VARIANTS: Final = 32


class Kernels:
    """`block` and `widen`, compiled or as they stand; `choose` decides for each generation.

    Compiling happens on a thread of its own, so that nobody has to wait for it: what is not ready
    in time is drawn with the plain code, and a later generation has the compiled one. What fails to
    compile, `block` or `widen`, is left alone from then on, with one warning; the other goes on.
    """

    def __init__(self, device: torch.device, *, wanted: bool, cache: Path | None = None) -> None:
        lacking = lacking_to_compile(device) if wanted else None
        if lacking is not None:
            log.warning("Blocks are not compiled: %s is missing.", lacking)
        self.compiled = wanted and lacking is None
        """Whether blocks are compiled, or are to be."""
        self.active = self.compiled
        """Whether the present `block` and `widen` are the compiled ones."""
        self.block: Run = run_block
        self.widen: Widen = dequantize
        self._device = device
        self._ready: set[Hashable] = set()
        self._work: threading.Thread | None = None
        if not self.compiled:
            return
        if cache is not None:
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
        dynamo: Any = torch._dynamo  # noqa: SLF001 - the limit has no public name
        # One graph for one branch, two branches, each with and without additions …
        dynamo.config.recompile_limit = max(_VARIANTS, dynamo.config.recompile_limit)
        self._fast_block: Run = self._guarded(torch.compile(run_block, fullgraph=True), run_block)
        widen = torch.compile(dequantize_bytes)

        def widen_bytes(quantized: Tensor, scale: Tensor, out: Tensor) -> None:
            if quantized.dtype is torch.int8:
                dequantize(quantized, scale, out)  # a kernel of its own, where there is one
                return
            widen(quantized.view(torch.uint8), scale, out)

        self._fast_widen: Widen = self._guarded(widen_bytes, dequantize)

    @property
    def busy(self) -> bool:
        """Whether something is being compiled at the moment."""
        return self._work is not None and self._work.is_alive()

    def is_ready(self, key: Hashable) -> bool:
        """Tell whether `key` need not be compiled any more."""
        return not self.compiled or key in self._ready

    def compile(self, key: Hashable, sample: Callable[[Run, Widen], None]) -> None:
        """Begin to compile what `sample` runs, as `key`, unless the compiler is busy."""
        if self.busy or self.is_ready(key):
            return
        threads = torch.get_num_threads()

        def work() -> None:
            # Compiled code is for this number, which a new thread does not inherit everywhere.
            torch.set_num_threads(threads)
            try:
                with torch.no_grad():
                    sample(self._fast_block, self._fast_widen)
            except torch.OutOfMemoryError:
                log.warning("There was no memory to compile in; the next picture tries again.")
            else:
                self._ready.add(key)

        self._work = threading.Thread(target=work, name="compile", daemon=True)
        self._work.start()

    def choose(self, key: Hashable, wait_s: float) -> bool:
        """Use compiled code if `key` is ready within `wait_s` seconds; tell whether it is."""
        if self._work is not None and not self.is_ready(key):
            self._work.join(None if math.isinf(wait_s) else wait_s)
        if self._work is not None and not self._work.is_alive():
            self._work = None
            if self._device.type == "cuda":
                # The matrix library's workspaces of that thread would stay for ever. Not cleared
                # there: the drawing thread looks its own up in the same table.
                torch._C._cuda_clearCublasWorkspaces()  # noqa: SLF001 - no public name
        self.active = self.compiled and key in self._ready
        self.block = self._fast_block if self.active else run_block
        self.widen = self._fast_widen if self.active else dequantize
        return self.active

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
                log.warning(
                    "%s cannot be compiled, going on without: %s", plain.__name__, _cause(error)
                )
                refused = True
                if plain is run_block:
                    self.compiled = False
                return plain(*arguments)

        return call


def _cause(error: Exception) -> str:
    """Return an error's type and the last line that names one: a worker's whole story is longer."""
    lines = [line.strip() for line in str(error).replace("\\n", "\n").splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line or "error:" in line]
    return f"{type(error).__name__}: {(named or lines or [''])[-1]}"


def mark_lengths(image: Tensor, texts: list[Tensor], ropes: list[Tensor]) -> None:
    """Tell the compiler which sizes change from picture to picture: numbers of tokens."""
    dynamo: Any = torch._dynamo  # noqa: SLF001
    dynamo.maybe_mark_dynamic(image, 1)
    for tensor in (*texts, *ropes):
        dynamo.maybe_mark_dynamic(tensor, 0)
