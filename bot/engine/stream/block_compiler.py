"""Compiling before the first step: one block of each structure that a picture visits."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bot.engine.stream.compiling import mark_lengths
from bot.engine.stream.execution import Execution
from bot.engine.stream.generation import Generation
from bot.engine.stream.layout import Geometry
from bot.engine.stream.outer import OuterLayers
from bot.engine.stream.weights import Additions, WeightStore


class BlockCompiler:
    """Has blocks compiled where a picture is prepared, so that its steps find them ready.

    A structure is compiled once a process: the usual one at loading (see warming.py), that of one
    branch and that of each rank of a LoRA with the first picture that needs it.
    """

    def __init__(
        self, geometry: Geometry, outer: OuterLayers, weights: WeightStore, execution: Execution
    ) -> None:
        self._geometry = geometry
        self._outer = outer
        self._weights = weights
        self._execution = execution

    def compile(
        self,
        generation: Generation,
        additions: Additions,
        on_compile: Callable[[], None] | None = None,
    ) -> None:
        """Visit a block of each structure of `generation` that was not visited before.

        The visit is that of a step, in the memory of a step. `on_compile` is called before each
        structure; it may raise to give up. Raises `torch.OutOfMemoryError` where compiling found no
        memory: what was compiled until then stays.
        """
        execution, weights = self._execution, self._weights
        kernels, kernel, wide = execution.kernels, execution.kernel, execution.wide
        branches = len(generation.texts) if generation.work.joint else 1
        missing = {
            (branches, kernel, structure): index
            for structure, index in weights.structures(additions).items()
            if (branches, kernel, structure) not in kernels.ready
        }
        if not missing or not kernels.compiled:
            return
        height, width = generation.work.height // 8, generation.work.width // 8
        unit = self._outer.units(generation, torch.zeros(1, 16, height, width))[0]
        modulation = unit.image.new_zeros(12, self._geometry.dim)
        mark_lengths(unit.image, unit.texts, [generation.image_rope, *unit.ropes])
        weights.begin("block")
        for key, index in missing.items():
            if on_compile is not None:
                on_compile()
            with weights.block(index, additions, wide=wide) as matrices:
                rope = generation.image_rope
                kernels.block(
                    kernel, unit.image, unit.texts, modulation, matrices, rope, unit.ropes
                )
            kernels.ready.add(key)
