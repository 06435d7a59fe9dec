"""The compiler beside the drawing: a block of a picture's structure, if memory has room for it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from torch import Tensor

from bot.engine.stream.block import Run
from bot.engine.stream.budget import Work, activation_bytes
from bot.engine.stream.compiling import Widen, mark_lengths
from bot.engine.stream.execution import Execution
from bot.engine.stream.layout import Geometry
from bot.engine.stream.residency import Residency
from bot.engine.stream.weights import Additions, WeightStore


class BlockCompiler:
    """Begins to compile what a picture needs, and says whether it is drawn by it already."""

    def __init__(
        self, geometry: Geometry, weights: WeightStore, execution: Execution, residency: Residency
    ) -> None:
        self._geometry = geometry
        self._weights = weights
        self._execution = execution
        self._residency = residency

    def choose(
        self,
        work: Work,
        texts: Sequence[Tensor],
        image_rope: Tensor,
        text_ropes: Sequence[Tensor],
        additions: Additions,
    ) -> None:
        """Have a block of `work`'s structure compiled; wait for it as long as is allowed.

        `texts` are [tokens, dim], the ropes [tokens, head_dim / 2, 2], one a guidance branch.
        """
        execution = self._execution
        together = len(texts) if work.joint else 1
        structures = self._weights.structures(additions)
        key = (together, execution.matmul, frozenset(structures))
        kernels = execution.kernels
        if not kernels.busy and not kernels.is_ready(key):
            blocks = tuple(structures.values())
            # Not all of them: the thread must not keep those of a job that is over.
            needed = {at: pair for at, pair in additions.items() if at[0] in blocks}
            ropes = text_ropes[:together]
            self._begin(key, work, blocks, texts[:together], image_rope, ropes, needed)
        wait_s = execution.settings.compile_wait
        if not kernels.choose(key, wait_s) and not self._residency.fits(work):
            # The budget is too small for both: the picture waits.
            kernels.choose(key, math.inf)
        self._weights.widen = kernels.widen

    def _begin(
        self,
        key: Hashable,
        work: Work,
        blocks: Sequence[int],
        texts: Sequence[Tensor],
        image_rope: Tensor,
        text_ropes: Sequence[Tensor],
        additions: Additions,
    ) -> None:
        """Make room for compiling and begin it; `blocks` has one of each structure."""
        execution, weights, geometry = self._execution, self._weights, self._geometry
        wide, kernel = execution.wide, execution.kernel
        modulation = texts[0].new_zeros(12, geometry.dim)
        image = texts[0].new_zeros(len(texts), len(image_rope), geometry.dim)
        those, ropes = list(texts), list(text_ropes)

        def sample(block: Run, widen: Widen) -> None:
            mark_lengths(image, those, [image_rope, *ropes])
            for index in blocks:
                matrices = weights.sample(index, additions, widen, wide=wide)
                block(kernel, image, those, modulation, matrices, image_rope, ropes)
                del matrices  # before the next are made

        # Blocks make room for it, whether or not a picture is drawn meanwhile.
        element = execution.settings.dtype.itemsize
        more = activation_bytes(work, geometry, element, compiled=True)
        more += weights.sample_bytes(wide=wide)
        execution.compiling_bytes = more
        fits = self._residency.fits(work, more)
        spare = self._residency.plan(work, more=more).resident if fits else frozenset[int]()
        self._residency.keep(spare)
        execution.kernels.compile(key, sample)
