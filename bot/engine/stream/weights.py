"""Weights of all blocks: where they are, and how they look while a block is visited."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bot.engine.stream.block import Matrix
from bot.engine.stream.compiling import Widen
from bot.engine.stream.device import Device
from bot.engine.stream.layout import Geometry, Kind, Layout, Packed
from bot.engine.stream.lora import LowRank
from bot.engine.stream.storage import dequantize
from bot.engine.stream.streamer import Streamer

log = logging.getLogger(__name__)

Bind = Callable[[Mapping[str, Matrix], Mapping[str, Tensor]], Any]
"""Makes a block's weights of its matrices; see `TransformerNetwork.bind`."""
Additions = Mapping[tuple[int, str], LowRank]
"""Low-rank additions by block and piece."""
Structure = tuple[tuple[str, torch.Size], ...]
"""Which pieces of a block have additions, and of which shape."""


class WeightStore:
    """Hands out a block's matrices from the device, or from main memory through the streamer.

    `widen` writes eight bits out in the activations' type; `Execution` replaces it by the compiled
    one.
    """

    def __init__(
        self, geometry: Geometry, layouts: Mapping[Kind, Layout], bind: Bind, device: Device
    ) -> None:
        self.layouts = dict(layouts)
        self.widen: Widen = dequantize
        self.most = 0
        """How many blocks were ever resident together."""
        self.copied = False
        """Whether resident blocks that are added are in main memory too."""
        self._geometry = geometry
        self._bind = bind
        self._dtype = layouts["block"].dtype
        self._device = device
        self._streamer = Streamer(device)
        self._small: dict[tuple[Kind, int], dict[str, Tensor]] = {}
        self._scratch: Tensor | None = None
        self._lent: frozenset[int] = frozenset()

    def add(self, kind: Kind, index: int, packed: Packed, *, resident: bool) -> bool:
        """Place one part of block `index`; return whether `packed.flat` itself is kept."""
        # Modulation is fetched once a schedule, 6 GiB of it: not worth as much pinned memory.
        pinned = kind == "block"
        device = self._device.torch
        self._small[kind, index] = {name: t.to(device) for name, t in packed.small.items()}
        return self._streamer.add(
            (kind, index), packed.flat, resident=resident, pinned=pinned, copied=self.copied
        )

    @property
    def small_size(self) -> int:
        """Bytes on the device that belong to no flat buffer."""
        return self._geometry.layers * sum(each.small_size for each in self.layouts.values())

    @property
    def host_bytes(self) -> int:
        """How much main memory the weights take."""
        return self._streamer.host_bytes

    @property
    def pinned_bytes(self) -> tuple[int, int]:
        """How much of that is pinned, and how much of it was to be, in bytes."""
        return self._streamer.pinned_bytes

    @property
    def complete(self) -> bool:
        """Whether every block was added."""
        return len(self._small) == len(self.layouts) * self._geometry.layers

    @property
    def resident(self) -> frozenset[int]:
        """Which blocks stay on the device at the moment."""
        layers = range(self._geometry.layers)
        return frozenset(i for i in layers if self._streamer.is_resident(("block", i)))

    def keep(self, wanted: frozenset[int], *, scratch: bool, rests: bool = False) -> None:
        """Evict and bring back blocks until `wanted` are resident, or as many as have room.

        With `rests` no block is visited before the next call. Raises `MemoryError` or
        `RuntimeError` where main memory has no room for those that leave.
        """
        before = self.resident
        self.most = max(self.most, len(before), len(wanted))
        if wanted == before and not rests and not self._lent:
            return
        for index in sorted(before - wanted):
            self._streamer.evict(("block", index), rests=rests)
        self._streamer.drop_slots()
        if not scratch:
            self._scratch = None
        self._device.release_cache()
        try:
            for index in sorted(wanted - before):
                self._streamer.promote(("block", index))
        except torch.OutOfMemoryError:
            log.warning(
                "The card has no room for %d blocks, %d are on it: another program may hold it.",
                len(wanted),
                len(self.resident),
            )
            self._device.release_cache()
        for index in () if rests else sorted(self._lent):
            self._streamer.wake(("block", index))
        self._lent = self._lent | before - wanted if rests else frozenset()
        self._device.synchronise()

    def offload(self) -> None:
        """Leave the device altogether, for main memory.

        Raises `MemoryError` or `RuntimeError` where there is no room; it is of no use then.
        """
        for index in sorted(self.resident):
            self._streamer.evict(("block", index), rests=True)
        self._streamer.drop_slots()
        self._scratch, self.most = None, 0
        _move(self._small, torch.device("cpu"))

    def onload(self) -> None:
        """Be on the device again, where `keep` then brings blocks back."""
        _move(self._small, self._device.torch)

    def begin(self, kind: Kind) -> None:
        """Say that all blocks' parts of `kind` will be visited in order, again and again."""
        self._streamer.begin([(kind, i) for i in range(self._geometry.layers)])

    @contextmanager
    def modulation(self, index: int) -> Generator[Matrix]:
        """Give block `index`'s modulation while the context lasts."""
        layout, small = self.layouts["modulation"], self._small["modulation", index]
        with self._streamer.visit(("modulation", index)) as flat:
            stored = layout.stored(flat)
            wide = self._widened(stored, small) if layout.quantized else stored
            yield Matrix(layout.matrices(wide)["modulation"], small["modulation.bias"])

    @contextmanager
    def block(self, index: int, additions: Additions, *, wide: bool) -> Generator[Any]:
        """Give block `index` while the context lasts, as stored or, if `wide`, widened."""
        layout, small = self.layouts["block"], self._small["block", index]
        if layout.quantized and wide:
            with self._streamer.visit(("block", index)) as flat:
                views = layout.matrices(self._widened(layout.stored(flat), small))
            # The slot is free already: what follows uses the scratch.
            yield self._bind(_matrices(index, views, small, additions, scaled=False), small)
        else:
            with self._streamer.visit(("block", index)) as flat:
                views = layout.matrices(layout.stored(flat))
                scaled = layout.quantized
                yield self._bind(_matrices(index, views, small, additions, scaled=scaled), small)

    def structures(self, additions: Additions) -> dict[Structure, int]:
        """Return the first block of each structure: each is compiled for itself."""
        added: list[list[tuple[str, torch.Size]]] = [[] for _ in range(self._geometry.layers)]
        for (index, name), pair in additions.items():
            if name != "modulation":
                added[index].append((name, pair.up.shape))
        found: dict[Structure, int] = {}
        for index, pieces in enumerate(added):
            found.setdefault(tuple(sorted(pieces)), index)
        return found

    def _widened(self, stored: Tensor, small: Mapping[str, Tensor]) -> Tensor:
        """Write stored elements out in the activations' type, over what was widened before."""
        if self._scratch is None or self._scratch.numel() < stored.numel():
            self._scratch = torch.empty(
                stored.numel(), dtype=self._dtype, device=self._device.torch
            )
        out, width = self._scratch[: stored.numel()], self._geometry.dim
        self.widen(stored.view(-1, width), small["scales"], out.view(-1, width))
        return out


def _move(tensors: Mapping[Any, dict[str, Tensor]], device: torch.device) -> None:
    for each in tensors.values():
        for name, tensor in each.items():
            each[name] = tensor.to(device)


def _matrices(
    index: int,
    views: Mapping[str, Tensor],
    small: Mapping[str, Tensor],
    additions: Additions,
    *,
    scaled: bool,
) -> dict[str, Matrix]:
    """Return block `index`'s matrices; `scaled`: the products themselves run in eight bits."""
    found: dict[str, Matrix] = {}
    for name, view in views.items():
        scale = small[f"{name}.scale"] if scaled else None
        addition = additions.get((index, name)) or (None, None)
        found[name] = Matrix(view, small[f"{name}.bias"], scale, *addition)
    return found
