"""Qwen-Image-2.1's transformer: one stream of tokens, the picture's come last.

Before them are the prompt's, with the references in their places among its words.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bot.engine.stream.block import EPSILON, Matrix
from bot.engine.stream.budget import Peak, Work
from bot.engine.stream.device import Device
from bot.engine.stream.layout import Geometry, Kind, LatentShape, Layout, single_layout
from bot.engine.stream.network import Inputs
from bot.engine.stream.prefixes import Prefix, Prefixes, PrefixPart
from bot.engine.stream.quantize import Matmul
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.single_block import (
    SingleKernel,
    SingleWeights,
    run_single_block,
)
from bot.engine.stream.weights import WeightStore

LATENTS: Final = LatentShape(channels=64, pixels=16, patch=1, sides=32)
# Compiled: measured on full-size blocks, one branch at 1344x768, above the weights: 0.339 GiB with
# `fp8` and `int8`, 0.293 with `fp8-fast`, 0.385 with `int8-fast`, which is 9.9; and a tenth more.
# Not compiled: derived. In the feed-forward layers there are the image before the block and after
# attention, what attention found, gate and value (6), the activated gate (3) and its product (3):
# 15, and a tenth more.
_PEAK: Final = Peak(16.5, 11.0, prefix=True)
_ROWS: Final = 4
_GATES: Final = (1, 3)


@dataclass(frozen=True, slots=True)
class SingleGeneration:
    """What all steps of one request share.

    `prefixes` has the keys and values of each block, for each guidance branch; `ropes` the
    picture's rotations for each branch; `rows` [steps, 4, dim] and `final` [steps, dim] are the
    timesteps' modulation.
    """

    work: Work
    prefixes: tuple[Prefix, ...]
    ropes: tuple[Tensor, ...]
    rows: Tensor
    final: Tensor

    @property
    def structure(self) -> Hashable:
        """See `Generation`: all are alike."""
        return None


@dataclass(slots=True)
class SingleUnit:
    """What goes through a block at once: branches of one picture."""

    image: Tensor
    branches: tuple[int, ...]


class SingleMoment(NamedTuple):
    """A timestep's scales and gates, [4, dim] for all blocks, and the last layer's scale [dim]."""

    rows: Tensor
    final: Tensor


class SingleStream:
    """A `TransformerNetwork`: DiffSynth's `QwenImage21DiT`, of which `outer` has no blocks."""

    latents = LATENTS
    peak = _PEAK
    block: Callable[..., Any] = staticmethod(run_single_block)

    def __init__(
        self, outer: Any, geometry: Geometry, device: Device, settings: TransformerSettings
    ) -> None:
        self.geometry = geometry
        self._device, self._dtype = device.torch, settings.dtype
        layout = single_layout(geometry, settings.dtype, settings.precision.storage)
        self.layouts: Mapping[Kind, Layout] = {"block": layout}
        self.outer = outer.to(device=device.torch, dtype=settings.dtype)
        self._prefixes = Prefixes()

    @property
    def text_width(self) -> int:
        """See `TransformerNetwork`."""
        return self.outer.txt_in.in_layer.in_features

    @property
    def size(self) -> int:
        """See `TransformerNetwork`."""
        return sum(p.numel() for p in self.outer.parameters()) * self._dtype.itemsize

    def kept_bytes(self, work: Work) -> int:
        """See `TransformerNetwork`: keys and values, half a MiB a token at full size."""
        return (
            2 * self.geometry.layers * self.geometry.dim * self._dtype.itemsize * work.prefix_tokens
        )

    def kernel(self, matmul: Matmul) -> SingleKernel:
        """See `TransformerNetwork`."""
        return SingleKernel(self.geometry, matmul)

    @staticmethod
    def bind(matrices: Mapping[str, Matrix], small: Mapping[str, Tensor]) -> SingleWeights:
        """See `TransformerNetwork`."""
        qkv, out, up, down = (matrices[name] for name in ("qkv", "out", "up", "down"))
        return SingleWeights(qkv, small["norms"], out, up, down)

    def begin(self, inputs: Inputs, weights: WeightStore) -> SingleGeneration:
        """See `TransformerNetwork`. New prompts' tokens go through all blocks, in one pass.

        References go with each of them.
        """
        work = inputs.work
        if len(inputs.places) != len(inputs.references):
            raise ValueError("references have no places among the prompt's tokens")
        # As the pipeline does: rounded to the activations' type, then divided.
        scaled = inputs.timesteps.to(self._device, self._dtype) / 1000
        rows, embedded = _modulation(self.outer, scaled)
        # The prompt's is that of 0, and computed apart: no schedule may change a bit of it.
        still, _ = _modulation(self.outer, scaled.new_zeros(1))
        final = 1 + self.outer.norm_out.linear(functional.silu(embedded))
        ropes = [self._ropes(inputs, len(prompt)) for prompt in inputs.prompts]

        def parts(prompt: Tensor) -> list[PrefixPart]:
            words = self.outer.txt_in(prompt.to(self._device, self._dtype)[None])[0]
            return _parts(self.outer, words, inputs)

        texts, images = zip(*ropes, strict=True)
        prefixes = self._prefixes.of(inputs, weights, parts, still[0], texts)
        return SingleGeneration(work, prefixes, images, rows, final)

    def moment(self, generation: SingleGeneration, step: int) -> SingleMoment:
        """See `TransformerNetwork`."""
        return SingleMoment(generation.rows[step], generation.final[step])

    def units(self, generation: SingleGeneration, latents: Tensor) -> list[SingleUnit]:
        """See `TransformerNetwork`."""
        branches = tuple(range(len(generation.prefixes)))
        units: list[SingleUnit] = []
        for tokens in latents.to(self._device, self._dtype).flatten(2).transpose(1, 2):
            image = self.outer.img_in(tokens)
            if generation.work.joint:
                units.append(SingleUnit(torch.stack([image] * len(branches)), branches))
            else:
                units += [SingleUnit(image[None], (branch,)) for branch in branches]
        return units

    def mark_lengths(self, generation: SingleGeneration, units: Sequence[SingleUnit]) -> None:
        """See `TransformerNetwork`."""
        dynamo: Any = torch._dynamo  # noqa: SLF001
        for unit in units:
            dynamo.maybe_mark_dynamic(unit.image, 1)
        for rope in generation.ropes:
            dynamo.maybe_mark_dynamic(rope, 0)
        for prefix in generation.prefixes:
            for tensor in (tensor for block in prefix for tensor in block):
                dynamo.maybe_mark_dynamic(tensor, 0)

    def sample(self, generation: SingleGeneration) -> tuple[SingleUnit, SingleMoment]:
        """See `TransformerNetwork`."""
        work = generation.work
        unit = self.units(generation, torch.zeros(LATENTS.of(1, work.width, work.height)))[0]
        return unit, self.moment(generation, 0)

    def run(
        self,
        block: Callable[..., Any],
        kernel: SingleKernel,
        unit: SingleUnit,
        generation: SingleGeneration,
        moment: SingleMoment,
        index: int,
        weights: SingleWeights,
    ) -> None:
        """See `TransformerNetwork`."""
        ropes = [generation.ropes[branch] for branch in unit.branches]
        prefixes = [generation.prefixes[branch][index] for branch in unit.branches]
        unit.image = block(kernel, unit.image, moment.rows, weights, ropes, prefixes)

    def finish(
        self, units: Sequence[SingleUnit], moment: SingleMoment, height: int, width: int
    ) -> Tensor:
        """See `TransformerNetwork`."""
        dim = (self.geometry.dim,)
        normed = [
            functional.layer_norm(unit.image, dim, moment.final, None, EPSILON) for unit in units
        ]
        tokens = torch.cat([self.outer.proj_out(each) for each in normed])
        return tokens.transpose(1, 2).unflatten(2, (height, width))

    def forget(self, but_for: Inputs | None = None) -> None:
        """See `TransformerNetwork`."""
        self._prefixes.forget(but_for)

    def _ropes(self, inputs: Inputs, length: int) -> tuple[Tensor, Tensor]:
        """Return the rotations of a prompt of `length` tokens with its references, and the picture.

        The former are in the order of `_parts`.
        """
        work = inputs.work
        sizes = (*work.references, (work.width, work.height))
        shapes = [(1, high // LATENTS.pixels, wide // LATENTS.pixels) for wide, high in sizes]
        ends = (*inputs.places, length)
        # For each picture the words in front of it, and its own tokens.
        counts = [end - start for start, end in zip((0, *ends), ends, strict=False)]
        pieces = [
            torch.arange(count + high * wide) >= count
            for count, (_, high, wide) in zip(counts, shapes, strict=True)
        ]
        turns = self.outer.pos_embed(shapes, torch.cat(pieces), device=self._device)
        real = torch.view_as_real(turns)
        prefix = len(real) - work.target_tokens
        return real[:prefix].contiguous(), real[prefix:].contiguous()


def _parts(outer: Any, words: Tensor, inputs: Inputs) -> list[PrefixPart]:
    """Return a prompt's `words` [tokens, dim] and the references, cut where they meet."""
    parts: list[PrefixPart] = []
    before = 0
    for place, latents in zip(inputs.places, inputs.references, strict=True):
        patches = latents.to(words)[0].flatten(1).T
        parts += [PrefixPart(words[before:place], False), PrefixPart(outer.img_in(patches), True)]
        before = place
    return [part for part in (*parts, PrefixPart(words[before:], False)) if len(part.tokens)]


def _modulation(outer: Any, scaled: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows [n, 4, dim] of timesteps [n], from 1 to 0, and their embeddings [n, dim]."""
    embedded = outer.time_text_embed(scaled, outer.proj_out.weight)
    rows = outer.modulation(embedded).unflatten(-1, (_ROWS, -1)).unbind(1)
    made = [row.tanh() if n in _GATES else 1 + row for n, row in enumerate(rows)]
    return torch.stack(made, dim=1), embedded
