"""Weights that stay on the device, and weights that come through two slots when visited."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from bot.engine.stream.device import Device, Event
from bot.engine.stream.pinned import HostBuffer

_SLOTS: Final = 2


@dataclass(slots=True)
class _Home:
    """Where an item's bytes are: on the device, in main memory, or both."""

    device: Tensor | None = None
    host: HostBuffer | None = None


@dataclass(slots=True)
class _Slot:
    buffer: Tensor
    filled: Event
    free: Event
    key: Hashable = None


class Streamer:
    """Hands out flat buffers by key, in an order that is known beforehand.

    While one item is used the next is copied, and from the end of a pass the order starts
    over. An item that was ever in main memory keeps that copy, so evicting it again is free;
    one that never was has none. Copies in main memory are `pinned` where that is wanted and may be.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._pinned: set[Hashable] = set()
        self._resting: set[Hashable] = set()
        self._homes: dict[Hashable, _Home] = {}
        self._slots: list[_Slot] = []
        self._order: tuple[Hashable, ...] = ()
        self._places: dict[Hashable, int] = {}

    def add(
        self,
        key: Hashable,
        flat: Tensor,
        *,
        resident: bool,
        pinned: bool = False,
        copied: bool = False,
    ) -> bool:
        """Take over the bytes of `flat` (uint8), without a copy where they may stay there.

        `copied`: one that is resident is in main memory too, so that leaving the device is free.
        Such a copy is not pinned, which takes longer than reading it from a disk's cache.

        Returns whether `flat` itself is kept; else its memory may be used for something else.
        """
        home = _Home()
        for slot in self._slots:
            if slot.key == key:  # what it holds is of before
                slot.key = None
        if pinned:
            self._pinned.add(key)
        if not resident or copied:
            home.host = self._device.keep(flat, pinned=pinned and not resident)
        if resident and copied:
            self._resting.add(key)
        if resident:
            home.device = self._device.taken(flat)
        self._homes[key] = home
        kept = (home.device, None if home.host is None else home.host.tensor)
        return any(each is not None and each.data_ptr() == flat.data_ptr() for each in kept)

    def is_resident(self, key: Hashable) -> bool:
        """Tell whether the item stays on the device."""
        return self._homes[key].device is not None

    @property
    def host_bytes(self) -> int:
        """How much main memory is taken."""
        return sum(h.host.tensor.numel() for h in self._homes.values() if h.host is not None)

    @property
    def pinned_bytes(self) -> tuple[int, int]:
        """How much main memory is pinned, and how much of it was to be, in bytes."""
        hosts = [self._homes[key].host for key in self._pinned - self._resting]
        sizes = [(host.tensor.numel(), host.pinned) for host in hosts if host is not None]
        return sum(size for size, pinned in sizes if pinned), sum(size for size, _ in sizes)

    def evict(self, key: Hashable, *, rests: bool = False) -> None:
        """Leave the item in main memory only; one that `rests` is not going to be visited there."""
        home = self._homes[key]
        if home.device is None:
            return
        pinned = key in self._pinned and not rests
        if home.host is None:
            home.host = self._device.keep(home.device, pinned=pinned)
            if rests:
                self._resting.add(key)
        elif pinned and key in self._resting:
            home.host = self._device.keep(home.host.tensor, pinned=True)
        if not rests:
            self._resting.discard(key)
        home.device = None

    def promote(self, key: Hashable) -> None:
        """Keep the item on the device from now on."""
        home = self._homes[key]
        if home.device is None:
            assert home.host is not None
            buffer = self._device.buffer(home.host.tensor.numel())
            self._device.fetch(buffer, home.host)
            home.device = buffer

    def wake(self, key: Hashable) -> None:
        """Make ready to visit in main memory what rests there."""
        home = self._homes[key]
        if key in self._resting and home.device is None:
            assert home.host is not None
            home.host = self._device.keep(home.host.tensor, pinned=key in self._pinned)
            self._resting.discard(key)

    def begin(self, order: Sequence[Hashable]) -> None:
        """Say which items will be visited, in which order, again and again; start to copy."""
        streamed = tuple(key for key in order if not self.is_resident(key))
        if streamed != self._order:
            self._order = streamed
            self._places = {key: place for place, key in enumerate(streamed)}
        self._make_slots(max((self._size(key) for key in streamed), default=0))
        first = self._order[: len(self._slots)]
        for slot in self._slots:
            if slot.key not in first:
                self._fill(slot, first)

    @contextmanager
    def visit(self, key: Hashable) -> Generator[Tensor]:
        """Give the item's bytes to the work queued inside the context."""
        resident = self._homes[key].device
        if resident is not None:
            yield resident
            return
        slot = next((slot for slot in self._slots if slot.key == key), None)
        if slot is None:  # out of order: nothing was copied ahead
            slot = self._slots[0]
            self._copy(slot, key)
        # Not when the visit before ended: what it computes is queued only now, and the host waits
        # for a copy from pageable memory. So the device computes meanwhile.
        place = self._places[key]
        ahead = (self._order + self._order)[place : place + len(self._slots)]
        for other in self._slots:
            if other.key not in ahead:
                self._fill(other, ahead)
        slot.filled.wait()
        try:
            yield slot.buffer
        finally:
            slot.free.record()

    def drop_slots(self) -> None:
        """Give the slots' memory back; the next `begin` makes new ones."""
        self._device.synchronise()
        self._slots = []

    def _size(self, key: Hashable) -> int:
        host = self._homes[key].host
        assert host is not None
        return host.tensor.numel()

    def _make_slots(self, size: int) -> None:
        if size == 0 or (self._slots and self._slots[0].buffer.numel() >= size):
            return
        self.drop_slots()
        for _ in range(_SLOTS):
            slot = _Slot(self._device.buffer(size), self._device.event(), self._device.event())
            slot.free.record()
            self._slots.append(slot)

    def _fill(self, slot: _Slot, wanted: Sequence[Hashable]) -> None:
        held = {other.key for other in self._slots}
        key = next((key for key in wanted if key not in held), None)
        if key is not None:
            self._copy(slot, key)

    def _copy(self, slot: _Slot, key: Hashable) -> None:
        host = self._homes[key].host
        assert host is not None
        with self._device.copying():
            slot.free.wait()
            self._device.fetch(slot.buffer[: host.tensor.numel()], host)
            slot.filled.record()
        slot.key = key
