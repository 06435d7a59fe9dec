"""Items of the weights cache: which of a network's tensors are packed together, and how."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor

from bot.engine.stream.layout import Packed
from bot.engine.stream.published import Sources


class Packer(Protocol):
    """Turns tensors into a `Packed`; its `repr` contains all that the result depends on."""

    def pack(self, state: Mapping[str, Tensor], device: torch.device) -> Packed:
        """See `Layout.pack`."""
        ...


@dataclass(frozen=True)
class Plain:
    """A `Packer` that keeps every tensor as it is, in `dtype`."""

    dtype: torch.dtype

    def pack(self, state: Mapping[str, Tensor], device: torch.device) -> Packed:
        """Return them all as small tensors."""
        small = {name: tensor.to(device, self.dtype) for name, tensor in state.items()}
        return Packed(torch.empty(0, dtype=torch.uint8, device=device), small)


@dataclass(frozen=True)
class AsPublished:
    """A `Packer` that keeps every tensor as it is, in main memory."""

    def pack(self, state: Mapping[str, Tensor], device: torch.device) -> Packed:
        """Return them all as small tensors."""
        del device
        return Packed(torch.empty(0, dtype=torch.uint8), dict(state))


class Use(StrEnum):
    """What a load does with an item."""

    LOADED = "loaded"
    """It is read and handed out."""
    LOOKED_UP = "looked up"
    """Its checksum is compared; it stays on the disk, where its `rows` are looked up."""
    KEPT = "kept"
    """Nothing: it is in the cache so that the published files may be deleted."""


@dataclass(frozen=True)
class Item:
    """What is handed out at once. `tensors` maps the packer's names to those in the files."""

    key: str
    tensors: Mapping[str, str]
    packer: Packer
    use: Use = Use.LOADED


class PackedForms:
    """How items are made of published files: hashes of it, and the shapes that come out."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._shapes: dict[tuple[object, ...], Packed] = {}

    def specs(self, item: Item) -> tuple[object, ...]:
        """Return what its result depends on besides the weights' values."""
        named = {name: self._sources.spec(full) for name, full in item.tensors.items()}
        return (repr(item.packer), *named.items())

    def form(self, item: Item) -> str:
        """Return a hash of `specs`."""
        return hashlib.sha256(repr(self.specs(item)).encode()).hexdigest()[:16]

    def shapes(self, item: Item) -> Packed:
        """Return what comes out, without values."""
        meta = torch.device("meta")
        specs = self.specs(item)
        if specs not in self._shapes:
            named = {name: self._sources.spec(full) for name, full in item.tensors.items()}
            state = {n: torch.empty(s, dtype=d, device=meta) for n, (d, s) in named.items()}
            self._shapes[specs] = item.packer.pack(state, meta)
        return self._shapes[specs]
