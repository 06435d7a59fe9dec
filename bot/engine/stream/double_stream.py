"""Qwen-Image's transformer: image and text in blocks of two halves, each with its modulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from bot.engine.stream.block import Kernel, Matrix, Run, Stream, Weights, run_block
from bot.engine.stream.budget import DOUBLE_PEAK, Work
from bot.engine.stream.device import Device
from bot.engine.stream.generation import DoubleGeneration, StillBlocks, Unit
from bot.engine.stream.layout import (
    Geometry,
    Kind,
    LatentShape,
    Layout,
    block_layout,
    modulation_layout,
)
from bot.engine.stream.modulation import IMAGE_ROWS, ROWS, Modulation
from bot.engine.stream.network import Inputs
from bot.engine.stream.outer import OuterLayers
from bot.engine.stream.quantize import Matmul
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.weights import WeightStore

LATENTS: Final = LatentShape(channels=16, pixels=8, patch=2)


class Moment(NamedTuple):
    """A timestep's shifts, scales and gates: each block's [12, dim], the last layer's [2, dim]."""

    blocks: Sequence[Tensor]
    final: Tensor | None


class DoubleStream:
    """A `TransformerNetwork`: DiffSynth's `QwenImageDiT`, of which `outer` has no blocks.

    `zero_cond_t`: the tokens of references are modulated as at timestep 0, and not as the target's.
    So was Qwen-Image-Edit-2511 trained, whose published configuration has that name for it; what it
    draws without references does not depend on it.
    """

    latents = LATENTS
    peak = DOUBLE_PEAK
    block: Run = staticmethod(run_block)

    def __init__(
        self,
        outer: Any,
        geometry: Geometry,
        device: Device,
        settings: TransformerSettings,
        *,
        zero_cond_t: bool = False,
    ) -> None:
        self.geometry = geometry
        self.zero_cond_t = zero_cond_t
        self._dtype = dtype = settings.dtype
        self.layouts: Mapping[Kind, Layout] = {
            "block": block_layout(geometry, dtype, settings.precision.storage),
            "modulation": modulation_layout(geometry, dtype, settings.modulation_storage),
        }
        self.layers = OuterLayers(outer, geometry, device, dtype)
        self.modulation = Modulation(geometry, device, dtype, self.layers)

    @property
    def outer(self) -> torch.nn.Module:
        """See `TransformerNetwork`."""
        return self.layers.network

    @property
    def text_width(self) -> int:
        """See `TransformerNetwork`."""
        return self.layers.text_width

    @property
    def size(self) -> int:
        """See `TransformerNetwork`."""
        return self.layers.size + self.modulation.bytes_per_step

    def kept_bytes(self, work: Work) -> int:
        """See `TransformerNetwork`: rows of timestep 0; the share of activations has the rest."""
        still = bool(work.references) and self.zero_cond_t
        rows = self.geometry.layers * IMAGE_ROWS if still else 0
        return rows * self.geometry.dim * self._dtype.itemsize

    def kernel(self, matmul: Matmul) -> Kernel:
        """See `TransformerNetwork`."""
        return Kernel(self.geometry, matmul, self.layouts["block"].quantized)

    @staticmethod
    def bind(matrices: Mapping[str, Matrix], small: Mapping[str, Tensor]) -> Weights:
        """See `TransformerNetwork`."""

        def side(name: str) -> Stream:
            parts = (matrices[f"{name}_{part}"] for part in ("out", "up", "down"))
            return Stream(matrices[f"{name}_qkv"], small[f"{name}_norms"], *parts)

        return Weights(side("img"), side("txt"))

    def begin(self, inputs: Inputs, weights: WeightStore) -> DoubleGeneration:
        """See `TransformerNetwork`."""
        work, layers = inputs.work, self.layers
        texts = layers.texts(inputs.prompts)
        image_rope, text_ropes = layers.ropes(work)
        references = layers.patches(inputs.references)
        apart = self.zero_cond_t and references is not None
        table = self.modulation.table(inputs, weights, still=apart)
        still = None
        if apart:
            image_rope, rope = image_rope.split([work.target_tokens, work.reference_tokens])
            still = StillBlocks(self.modulation.still(table), rope)
        return DoubleGeneration(work, texts, image_rope, text_ropes, table, references, still)

    def moment(self, generation: DoubleGeneration, step: int) -> Moment:
        """See `TransformerNetwork`."""
        return Moment(*self.modulation.step(generation.table, step))

    def units(self, generation: DoubleGeneration, latents: Tensor) -> list[Unit]:
        """See `TransformerNetwork`."""
        return self.layers.units(generation, latents)

    def mark_lengths(self, generation: DoubleGeneration, units: Sequence[Unit]) -> None:
        """See `TransformerNetwork`."""
        dynamo: Any = torch._dynamo  # noqa: SLF001
        for unit in units:
            dynamo.maybe_mark_dynamic(unit.image, 1)
            for tensor in (*unit.texts, generation.image_rope, *unit.ropes):
                dynamo.maybe_mark_dynamic(tensor, 0)
        if generation.still is not None:
            dynamo.maybe_mark_dynamic(generation.still.rope, 0)

    def sample(self, generation: DoubleGeneration) -> tuple[Unit, Moment]:
        """See `TransformerNetwork`."""
        work = generation.work
        unit = self.units(generation, torch.zeros(LATENTS.of(1, work.width, work.height)))[0]
        rows = unit.image.new_zeros(ROWS, self.geometry.dim)
        return unit, Moment([rows] * self.geometry.layers, None)

    def run(
        self,
        block: Run,
        kernel: Kernel,
        unit: Unit,
        generation: DoubleGeneration,
        moment: Moment,
        index: int,
        weights: Weights,
    ) -> None:
        """See `TransformerNetwork`."""
        rows, rope = moment.blocks[index], generation.image_rope
        still = None if generation.still is None else generation.still.of(index)
        unit.image, unit.texts = block(
            kernel, unit.image, unit.texts, rows, weights, rope, unit.ropes, still
        )

    def finish(self, units: Sequence[Unit], moment: Moment, height: int, width: int) -> Tensor:
        """See `TransformerNetwork`."""
        assert moment.final is not None
        return torch.cat(
            [self.layers.finished(unit, moment.final, height, width) for unit in units]
        )

    def forget(self, but_for: Inputs | None = None) -> None:
        """See `TransformerNetwork`: tables are in main memory, and the last few may stay."""
        if but_for is None:
            self.modulation.forget()
