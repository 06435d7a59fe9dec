"""Devices: the few things that a GPU does with streams and pinned memory and a CPU at once."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch

from bot.engine.host_memory import most_pinned, total_memory
from bot.engine.stream.pinned import HostBuffer, PinnedMemory, Staging, fills_pages, forget_error


class Event(Protocol):
    """A point in a stream's work, as `torch.cuda.Event`."""

    def record(self) -> None:
        """Mark the current stream's present end."""
        ...

    def wait(self) -> None:
        """Let the current stream wait for the mark."""
        ...

    def synchronize(self) -> None:
        """Let the caller wait for the mark."""
        ...


class _NoEvent:
    def record(self) -> None:
        pass

    def wait(self) -> None:
        pass

    def synchronize(self) -> None:
        pass


class Device:
    """A CPU: copies and work happen in program order, so there is nothing to wait for."""

    hole = 0
    """Bytes that can't be given back when one of several large buffers is freed."""

    def __init__(self, name: str = "cpu") -> None:
        self.torch = torch.device(name)

    @property
    def refuses_pinning(self) -> bool:
        """Whether the driver has refused to pin main memory."""
        return False

    def host_buffer(
        self, size: int, *, pinned: bool = False, held: torch.Tensor | None = None
    ) -> HostBuffer:
        """Return `size` bytes of main memory that `copying` may read: `held` itself, or others.

        Where they are wanted `pinned` and may be, the device fetches them by itself.
        """
        del pinned
        return HostBuffer(size, held=held)

    def keep(self, flat: torch.Tensor, *, pinned: bool = False) -> HostBuffer:
        """Return `flat` in main memory: itself where it lies there already, else a copy.

        No copy either where it is to be pinned and has its pages for itself.
        """
        size = flat.numel()
        if flat.device.type == "cpu" and not pinned:
            return HostBuffer(size, held=flat)
        if flat.device.type == "cpu" and fills_pages(flat):
            return self.host_buffer(size, pinned=True, held=flat)
        host = self.host_buffer(size, pinned=pinned)
        host.tensor.copy_(flat)
        return host

    def buffer(self, size: int) -> torch.Tensor:
        """Return `size` uninitialised bytes of the device's memory, flat uint8."""
        return torch.empty(size, dtype=torch.uint8, device=self.torch)

    def taken(self, flat: torch.Tensor) -> torch.Tensor:
        """Return flat bytes on the device: `flat` itself where it lies there, else a copy."""
        return flat.to(self.torch)

    def copying(self) -> AbstractContextManager[Any]:
        """Return a context in which work goes to the copy stream."""
        return nullcontext()

    def fetch(self, target: torch.Tensor, source: HostBuffer) -> None:
        """Copy `source` into the device's `target` of the same size, in the present context."""
        target.copy_(source.tensor, non_blocking=True)

    def event(self) -> Event:
        """Return a fresh event."""
        return _NoEvent()

    def synchronise(self) -> None:
        """Wait until all queued work is done."""

    def release_cache(self) -> None:
        """Give freed memory back to the driver."""

    def peak(self) -> tuple[int, int]:
        """Return the peaks of allocated and reserved memory since `reset_peak`, in bytes."""
        return 0, 0

    def reset_peak(self) -> None:
        """Start measuring the peaks afresh."""


class CudaDevice(Device):
    """A CUDA GPU with one copy stream beside the current one."""

    def __init__(self, name: str = "cuda") -> None:
        super().__init__(name)
        if ":" not in name:
            self.torch = torch.device("cuda", torch.cuda.current_device())
        self._copies = torch.cuda.Stream(self.torch)
        # Expandable segments have pages of 20 MiB, and neighbours share them.
        self.hole = 24 * 2**20 if _expandable() else 0
        self.pinned = PinnedMemory(most_pinned(total_memory()), self.torch)
        self._staging: Staging | None = None
        self._refuses_staging = False

    @property
    def refuses_pinning(self) -> bool:
        """See `Device`."""
        return self.pinned.refused

    def host_buffer(
        self, size: int, *, pinned: bool = False, held: torch.Tensor | None = None
    ) -> HostBuffer:
        """See `Device`."""
        return HostBuffer(size, self.pinned if pinned else None, held)

    def taken(self, flat: torch.Tensor) -> torch.Tensor:
        """See `Device`."""
        if flat.device.type != "cpu":
            return super().taken(flat)
        # Not by `to`, for which the driver copies with one thread (see `Staging`).
        target = self.buffer(flat.numel())
        self.fetch(target, HostBuffer(flat.numel(), held=flat))
        return target

    def copying(self) -> AbstractContextManager[Any]:
        """See `Device`."""
        return torch.cuda.stream(self._copies)

    def fetch(self, target: torch.Tensor, source: HostBuffer) -> None:
        """See `Device`."""
        if not source.pinned and self._staging is None and not self._refuses_staging:
            try:
                self._staging = Staging()
            except RuntimeError:
                self._refuses_staging = True
                forget_error()
        if source.pinned or self._staging is None:
            super().fetch(target, source)
        else:
            self._staging.copy(target, source.tensor)

    def event(self) -> Event:
        """See `Device`."""
        event: Any = torch.cuda.Event()
        return event

    def synchronise(self) -> None:
        """See `Device`."""
        torch.cuda.synchronize(self.torch)

    def release_cache(self) -> None:
        """See `Device`."""
        torch.cuda.synchronize(self.torch)
        torch.cuda.empty_cache()

    def peak(self) -> tuple[int, int]:
        """See `Device`."""
        return (
            torch.cuda.max_memory_allocated(self.torch),
            torch.cuda.max_memory_reserved(self.torch),
        )

    def reset_peak(self) -> None:
        """See `Device`."""
        torch.cuda.reset_peak_memory_stats(self.torch)


def _expandable() -> bool:
    """Tell whether torch's allocator maps pages; Windows' does not, whatever it is told."""
    told = os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF") or ""
    return sys.platform == "linux" and "expandable_segments:True" in told


def open_device(name: str) -> Device:
    """Return the device called `name` ("cpu", "cuda", "cuda:1")."""
    return CudaDevice(name) if name.startswith("cuda") else Device(name)
