"""Pinned main memory: what the GPU may fetch by itself, as far as the driver and the system allow.

Nothing depends on it but speed. The driver may refuse at any buffer: Windows gives about half of
main memory, WSL2 often less than a gigabyte, containers what their limit leaves. What is refused
stays pageable, and nothing is asked for again.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import defaultdict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import torch

log = logging.getLogger(__name__)

PAGE: Final = 4096
_STAGES: Final = 3
_STAGE_BYTES: Final = 16 * 2**20


class PinnedMemory:
    """The account of one process's pinned buffers. `most` bytes at most; None: no limit.

    Pinning takes about half as long as reading from a disk's cache, so a thread of its own does
    it, one buffer after the other, for the GPU `device`.
    """

    def __init__(self, most: int | None = None, device: torch.device | None = None) -> None:
        self.bytes = 0
        """How much is pinned at the moment."""
        self.refused = False
        """Whether the driver has refused, so that what is taken from then on is pageable."""
        self._most = most
        self._counting = threading.RLock()  # Garbage may be collected while it is held.
        # A thread's own device is the first GPU, which it would open.
        opened = None if device is None else partial(torch.cuda.set_device, device)
        self._thread = ThreadPoolExecutor(1, "pinning", initializer=opened)

    def begin(self, buffer: torch.Tensor) -> Future[bool]:
        """Have flat bytes pinned that begin and end with a page; the result says if they are."""
        return self._thread.submit(self._pin, buffer)

    def _pin(self, buffer: torch.Tensor) -> bool:
        size = buffer.numel()
        if self.refused or size == 0 or (self._most is not None and self.bytes + size > self._most):
            return False
        status = register(buffer)
        if status != 0:
            self.refused = True
            forget_error()
            log.warning(
                "The driver refuses to pin more than %.1f GiB of main memory (CUDA error %d): the "
                "rest stays pageable, and copies to the card may be slower.",
                self.bytes / 2**30,
                status,
            )
            return False
        self._count(size)
        return True

    def release(self, buffer: torch.Tensor, pinned: Future[bool]) -> None:
        """Let what `begin` pinned be ordinary memory again, once that is known."""
        # Never waits: whoever collects garbage calls this, the thread that pins included.
        pinned.add_done_callback(partial(self._release, buffer))

    def _release(self, buffer: torch.Tensor, pinned: Future[bool]) -> None:
        if pinned.result():
            self._count(-buffer.numel())
            unregister(buffer)

    def _count(self, size: int) -> None:
        with self._counting:
            self.bytes += size


class HostBuffer:
    """Flat bytes in main memory, `pinned` where an account is given and agrees.

    With `held`, they are those very bytes; to be pinned, they have to fill pages (`fills_pages`).
    """

    def __init__(
        self, size: int, pinned: PinnedMemory | None = None, held: torch.Tensor | None = None
    ) -> None:
        if held is not None:
            whole = held if pinned is None else _whole_pages(held)
        else:
            whole = (
                page_aligned(size) if pinned is not None else torch.empty(size, dtype=torch.uint8)
            )
        self.tensor = whole[:size]
        self._pinned: Future[bool] | None = None
        if pinned is not None:
            self._pinned = pinned.begin(whole)
            weakref.finalize(self, pinned.release, whole, self._pinned).atexit = False

    @property
    def pinned(self) -> bool:
        """Whether the device fetches it by itself; waits until that is known."""
        return self._pinned is not None and self._pinned.result()


class UsedMemory:
    """Flat bytes of main memory that nobody uses any more, by size. Threads may take and put.

    What the system hands out is filled with zeros first, page by page: reading from its cache took
    0.66 s a GiB into new memory, and 0.28 into used one (measured on a machine with an H200).
    """

    def __init__(self) -> None:
        self._free: defaultdict[int, deque[torch.Tensor]] = defaultdict(deque)

    def put(self, flat: torch.Tensor) -> None:
        """Let flat bytes be used again, where they are in main memory and fill pages."""
        if flat.device.type == "cpu" and fills_pages(flat):
            self._free[flat.numel()].append(flat)

    def take(self, size: int) -> torch.Tensor:
        """Return `size` bytes that fill pages."""
        try:
            return self._free[size].pop()
        except IndexError:
            return own_pages(size)

    def clear(self) -> None:
        """Give all of it back to the system."""
        self._free.clear()


class Staging:
    """A ring of small pinned buffers, through which pageable memory reaches the device.

    The driver does the same for such a copy, with one thread: on a machine with 16 cores that was
    6.5 GB/s. Here the processor's cores share the copying into the ring.
    """

    def __init__(self) -> None:
        """Raise `RuntimeError` where the driver refuses even that."""
        self._ring: list[tuple[torch.Tensor, Any]] = [
            (torch.empty(_STAGE_BYTES, dtype=torch.uint8, pin_memory=True), torch.cuda.Event())
            for _ in range(_STAGES)
        ]
        self._turn = 0

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy flat bytes on the current stream; the caller waits until `source` was read."""
        for begin in range(0, source.numel(), _STAGE_BYTES):
            piece = source[begin : begin + _STAGE_BYTES]
            stage, free = self._ring[self._turn]
            self._turn = (self._turn + 1) % _STAGES
            free.synchronize()
            stage[: piece.numel()].copy_(piece)
            target[begin : begin + piece.numel()].copy_(stage[: piece.numel()], non_blocking=True)
            free.record()


def register(buffer: torch.Tensor) -> int:
    """Pin it; return CUDA's status, 0 for success."""
    # torch's own pinned allocator rounds up to a power of two: a quarter of a gigabyte for each
    # block of 227 MB. Registering ordinary memory takes only what is asked for.
    runtime: Any = torch.cuda.cudart()
    return int(runtime.cudaHostRegister(buffer.data_ptr(), buffer.numel(), 0))


def unregister(buffer: torch.Tensor) -> None:
    """Take back what `register` did."""
    torch.cuda.synchronize()  # a copy may still read from it
    runtime: Any = torch.cuda.cudart()
    runtime.cudaHostUnregister(buffer.data_ptr())


def forget_error() -> None:
    """Clear the error that a refused call leaves, which the next kernel would report as its own."""
    try:
        one = torch.ones(1, dtype=torch.uint8, device="cuda")
        _ = one + one
        torch.cuda.synchronize()
    except RuntimeError as error:
        log.debug("cleared: %s", error)


def page_aligned(size: int) -> torch.Tensor:
    """Return `size` uninitialised bytes, rounded up to whole pages that nothing else lies in.

    A page of which two buffers have a part can be registered for one of them only.
    """
    whole = _rounded(size)
    raw = torch.empty(whole + PAGE, dtype=torch.uint8)
    start = -raw.data_ptr() % PAGE
    return raw[start : start + whole]


def own_pages(size: int) -> torch.Tensor:
    """Return `size` uninitialised bytes that have their pages for themselves (`fills_pages`)."""
    return page_aligned(size)[:size]


def fills_pages(flat: torch.Tensor) -> bool:
    """Tell whether flat bytes in main memory begin with a page and have their last one alone."""
    room = flat.untyped_storage().nbytes() - flat.storage_offset()
    return bool(flat.data_ptr() % PAGE == 0 and room >= _rounded(flat.numel()))


def _whole_pages(flat: torch.Tensor) -> torch.Tensor:
    """Return all of the pages that flat bytes fill."""
    return flat.as_strided((_rounded(flat.numel()),), (1,))


def _rounded(size: int) -> int:
    return -(-size // PAGE) * PAGE
