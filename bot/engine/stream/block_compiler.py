"""Compiling before the first step: one block of each structure that a picture visits."""

from __future__ import annotations

from collections.abc import Callable

from bot.engine.stream.execution import Execution
from bot.engine.stream.network import Generation, TransformerNetwork
from bot.engine.stream.weights import Additions, WeightStore


class BlockCompiler:
    """Has blocks compiled where a picture is prepared, so that its steps find them ready.

    A structure is compiled once a process: the usual one at loading (see warming.py), that of one
    branch, that of references at timestep 0 and that of each rank of a LoRA with the first picture
    that needs it.
    """

    def __init__(
        self, network: TransformerNetwork, weights: WeightStore, execution: Execution
    ) -> None:
        self._network = network
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
        work, network = generation.work, self._network
        branches = len(work.text_tokens) if work.joint else 1
        found = {
            (network.geometry, branches, kernel, generation.structure, structure): index
            for structure, index in weights.structures(additions).items()
        }
        missing = {key: index for key, index in found.items() if key not in kernels.ready}
        if not missing or not kernels.compiled:
            return
        unit, moment = network.sample(generation)
        network.mark_lengths(generation, [unit])
        weights.begin("block")
        for key, index in missing.items():
            if on_compile is not None:
                on_compile()
            with weights.block(index, additions, wide=wide) as matrices:
                network.run(kernels.block, kernel, unit, generation, moment, index, matrices)
            kernels.ready.add(key)
