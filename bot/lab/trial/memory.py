"""The trial's parts about memory: the card's budget, how it is shared out, what can be pinned."""

from __future__ import annotations

import time
from typing import Final

import torch

from bot.engine.card_budget import CardMemory, card_budget
from bot.engine.host_memory import available_memory, most_pinned, total_memory
from bot.engine.models.vram import require_gpu, take_budget
from bot.engine.stream.device import Device
from bot.lab.trial.bench import BLOCKS, Bench, Figures, timed
from bot.lab.trial.whole import Whole

# Other programs' last gigabyte; the engine itself would take it.
_LEFT_TO_OTHERS: Final = 2**30


def card(bench: Bench) -> Figures:
    """Find the card and take the engine's budget of it.

    Raises `EngineError` where there is no card, or one that cannot do it.
    """
    options = bench.wish.options
    if bench.wish.toy:
        total = total_memory() or 2**33
        memory = CardMemory(total, available_memory() or total)
        bench.budget = card_budget(memory, options.vram_gb, options.gpu_memory_utilization)
        figures: Figures = {"name": "the CPU", "capability": None}
    else:
        require_gpu()
        free, total = torch.cuda.mem_get_info(0)
        memory = CardMemory(total, free)
        bench.budget = take_budget(options)
        capability = ".".join(map(str, torch.cuda.get_device_capability(0)))
        figures = {"name": torch.cuda.get_device_name(0), "capability": capability}
    return figures | {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "total_bytes": memory.total,
        "free_bytes": memory.free,
        "foreign_bytes": bench.budget.foreign,
        "budget_bytes": bench.budget.bytes,
        "bound": bench.budget.bound.value,
    }


def plan(bench: Bench) -> Figures:
    """Share the budget out as the engine would, and count what waits in main memory.

    Raises `EngineError` (`OUT_OF_MEMORY`) where the budget has no room for the usual picture.
    """
    wish = bench.wish
    bench.whole = whole = Whole.of(
        wish.options, toy=wish.toy, family=wish.family, guided=wish.guided
    )
    bench.share = share = whole.share(bench.budget.bytes, compiled=wish.options.compile)
    most = most_pinned(total_memory())
    wanted = share.streamed_bytes if most is None else min(most, share.streamed_bytes)
    return {
        "blocks": share.blocks,
        "resident": share.resident,
        "block_bytes": whole.block_bytes,
        "streamed_bytes_a_step": share.streamed_bytes,
        "pin_wanted_bytes": wanted,
        "pageable_bytes": whole.pageable_bytes + share.streamed_bytes - wanted,
        "main_memory_bytes": total_memory(),
    }


def pinning(bench: Bench) -> Figures:
    """Pin as much main memory as the engine would, and hold it until the end."""
    device, size = bench.dit.device, bench.whole.block_bytes
    wanted, free = bench.share.streamed, available_memory()
    bearable = wanted if free is None else max(0, (free - _LEFT_TO_OTHERS) // size)
    started = time.perf_counter()
    # The blocks that were loaded are pinned in their turn, when they leave the card.
    while len(bench.held) < min(wanted, bearable) - BLOCKS:
        buffer = device.host_buffer(size, pinned=True)
        if not buffer.pinned:
            break
        bench.held.append(buffer)
    bench.dit.weights.keep(frozenset(), scratch=True)
    pinned, _ = bench.dit.weights.pinned_bytes
    seconds = time.perf_counter() - started
    pinned_rate = _copy_rate(device, size, pinned=True)
    bench.pageable_bytes_s = _copy_rate(device, size, pinned=False)
    bench.fetch_bytes_s = pinned_rate if pinned else bench.pageable_bytes_s
    return {
        "wanted_bytes": wanted * size,
        "pinned_bytes": min(wanted * size, pinned + len(bench.held) * size),
        "refused": device.refuses_pinning,
        "lacks_main_memory": bearable < wanted,
        "seconds": seconds,
        "pinned_bytes_a_second": pinned_rate,
        "pageable_bytes_a_second": bench.pageable_bytes_s,
    }


def _copy_rate(device: Device, size: int, *, pinned: bool) -> float:
    source, target = device.host_buffer(size, pinned=pinned), device.buffer(size)

    def copy() -> None:
        with device.copying():
            device.fetch(target, source)

    return size / timed(device, copy)
