"""What work takes on the card itself, without the time of its launches from Python."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import torch

_TRIALS: Final = 5
_LAUNCHES: Final = 10


def milliseconds(work: Callable[[], Any], device: torch.device) -> float:
    """Return the least of five measurements; on a GPU a recorded row of ten is replayed for each.

    A short kernel takes less time than Python takes to launch it, which a compiled block does not
    wait for. `work` must not copy to the CPU, and is done once before anything is recorded.
    """
    work()
    if device.type != "cuda":
        return min(_seconds(work) for _ in range(_TRIALS)) * 1e3
    torch.cuda.synchronize(device)
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
    # Not `torch.cuda.graph`, which collects garbage each time.
    with torch.cuda.stream(stream):
        graph.capture_begin()
        for _ in range(_LAUNCHES):
            work()
        graph.capture_end()
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    took: list[float] = []
    for _ in range(_TRIALS):
        began.record()
        graph.replay()
        ended.record()
        ended.synchronize()
        took.append(began.elapsed_time(ended) / _LAUNCHES)
    return min(took)


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
