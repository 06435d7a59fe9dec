"""The modulation of every block at every timestep, computed once per schedule.

A third of a block's parameters turn the timestep's embedding into shifts, scales and gates. They
see neither the picture nor the prompt, so for a known schedule their results are a table that
all pictures, both guidance branches and all later pictures with the same schedule share.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from bot.engine.stream.device import Device
from bot.engine.stream.generation import Table
from bot.engine.stream.layout import Geometry
from bot.engine.stream.network import Inputs
from bot.engine.stream.outer import OuterLayers
from bot.engine.stream.weights import Additions, WeightStore

ROWS: Final = 12
IMAGE_ROWS: Final = 6
"""The first ones."""
_SCALE_ROWS: Final = (1, 4, 7, 10)
_TABLES_KEPT: Final = 4


class Modulation:
    """Computes and keeps tables; `step` brings one timestep's rows to the device (4.4 MB)."""

    def __init__(
        self,
        geometry: Geometry,
        device: Device,
        dtype: torch.dtype,
        outer: OuterLayers,
    ) -> None:
        self._geometry = geometry
        self._device = device
        self._dtype = dtype
        self._outer = outer
        self._tables: OrderedDict[tuple[Any, ...], Table] = OrderedDict()
        self._rows = geometry.layers * ROWS + 2
        self._now: Tensor | None = None

    @property
    def bytes_per_step(self) -> int:
        """Size of one timestep's rows."""
        return self._rows * self._geometry.dim * self._dtype.itemsize

    def table(self, inputs: Inputs, weights: WeightStore, *, still: bool = False) -> Table:
        """Return the table of `inputs`' timesteps, computing it if it isn't among the last few.

        With `still` timestep 0 follows them.
        """
        timesteps = inputs.timesteps
        if still:
            timesteps = torch.cat((timesteps, timesteps.new_zeros(1)))
        key = (tuple(timesteps.tolist()), inputs.loras)
        if key in self._tables:
            self._tables.move_to_end(key)
            return self._tables[key]
        # As the pipeline does: rounded to the activations' type, then divided.
        scaled = timesteps.to(self._device.torch, self._dtype) / 1000
        weights.begin("modulation")
        embedding = functional.silu(self._outer.embedded(scaled))
        table = self._compute(embedding, inputs.additions, weights)
        self._tables[key] = table
        while len(self._tables) > _TABLES_KEPT:
            self._tables.popitem(last=False)
        return table

    def still(self, table: Table) -> Tensor:
        """Bring the image's rows at timestep 0 to the device, each block's: [layers, 6, dim].

        `table` was made with `still`.
        """
        blocks = table.values[-1, :-2].view(self._geometry.layers, ROWS, self._geometry.dim)
        return blocks[:, :IMAGE_ROWS].contiguous().to(self._device.torch)

    def forget(self) -> None:
        """Drop all tables, and what is on the device."""
        self._tables.clear()
        self._now = None

    def _compute(self, embedding: Tensor, additions: Additions, weights: WeightStore) -> Table:
        steps, dim = embedding.shape
        by_block = torch.empty(self._rows * steps * dim, dtype=self._dtype)
        start = 0
        for values in self._values(embedding, additions, weights):
            end = start + values.numel()
            by_block[start:end].copy_(values.reshape(-1))
            start = end
        last = self._geometry.layers * ROWS * steps * dim
        buffer = self._device.host_buffer(by_block.numel() * self._dtype.itemsize)
        table = buffer.tensor.view(self._dtype).view(steps, self._rows, dim)
        blocks = by_block[:last].view(self._geometry.layers, steps, ROWS, dim)
        table[:, :-2].view(steps, self._geometry.layers, ROWS, dim).copy_(blocks.transpose(0, 1))
        table[:, -2:].copy_(by_block[last:].view(steps, 2, dim))
        return Table(buffer, table)

    def _values(
        self, embedding: Tensor, additions: Additions, weights: WeightStore
    ) -> Iterator[Tensor]:
        steps, dim = embedding.shape
        for index in range(self._geometry.layers):
            with _product(index, embedding, additions, weights) as flat:
                values = flat.view(steps, ROWS, dim)
                for row in _SCALE_ROWS:
                    values[:, row] += 1
                yield values
        final = self._outer.final_modulation(embedding).view(steps, 2, dim)
        final[:, 0] += 1
        yield final

    def step(self, table: Table, index: int) -> tuple[list[Tensor], Tensor]:
        """Bring timestep `index` to the device: each block's [12, dim], the end's [2, dim]."""
        now = self._now
        if now is None:
            size = (self._rows, self._geometry.dim)
            now = torch.empty(size, dtype=self._dtype, device=self._device.torch)
            self._now = now
        now.copy_(table.values[index], non_blocking=True)
        blocks = now[:-2].view(self._geometry.layers, ROWS, self._geometry.dim)
        return list(blocks.unbind()), now[-2:]


@contextmanager
def _product(
    index: int, embedding: Tensor, additions: Additions, weights: WeightStore
) -> Generator[Tensor]:
    """Give block `index`'s [steps, 12 dim] while the context lasts."""
    with weights.modulation(index) as matrix:
        out = functional.linear(embedding, matrix.weight, matrix.bias)
        addition = additions.get((index, "modulation"))
        if addition is not None:
            out += functional.linear(functional.linear(embedding, addition.down), addition.up)
        yield out
