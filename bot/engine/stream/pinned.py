"""Pinned main memory: what the GPU may fetch by itself, as far as the driver and the system allow.

Nothing depends on it but speed. The driver may refuse at any buffer: Windows gives about half of
main memory, WSL2 often less than a gigabyte, containers what their limit leaves. What is refused
stays pageable, and nothing is asked for again.
"""

from __future__ import annotations

import logging
import weakref
from typing import Any, Final

import torch

log = logging.getLogger(__name__)

PAGE: Final = 4096
_STAGES: Final = 3
_STAGE_BYTES: Final = 16 * 2**20


class PinnedMemory:
    """The account of one process's pinned buffers. `most` bytes at most; None: no limit."""

    def __init__(self, most: int | None = None) -> None:
        self.bytes = 0
        """How much is pinned at the moment."""
        self.refused = False
        """Whether the driver has refused, so that what is taken from then on is pageable."""
        self._most = most

    def pin(self, buffer: torch.Tensor) -> bool:
        """Pin flat bytes that begin and end with a page; tell whether they are pinned now."""
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
        self.bytes += size
        return True

    def release(self, buffer: torch.Tensor) -> None:
        """Let what `pin` pinned be ordinary memory again."""
        self.bytes -= buffer.numel()
        unregister(buffer)


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
        self.pinned = pinned is not None and pinned.pin(whole)
        if pinned is not None and self.pinned:
            weakref.finalize(self, pinned.release, whole).atexit = False


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


def fills_pages(flat: torch.Tensor) -> bool:
    """Tell whether flat bytes in main memory begin with a page and have their last one alone."""
    room = flat.untyped_storage().nbytes() - flat.storage_offset()
    return bool(flat.data_ptr() % PAGE == 0 and room >= _rounded(flat.numel()))


def _whole_pages(flat: torch.Tensor) -> torch.Tensor:
    """Return all of the pages that flat bytes fill."""
    return flat.as_strided((_rounded(flat.numel()),), (1,))


def _rounded(size: int) -> int:
    return -(-size // PAGE) * PAGE
