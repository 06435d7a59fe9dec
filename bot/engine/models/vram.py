"""DiffSynth's VRAM management: the card, the budget, how weights are kept and get to the card."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from diffsynth.core.vram.disk_map import DiskMap
from diffsynth.core.vram.layers import AutoWrappedModule

from bot.engine.card_budget import CardBudget, CardMemory, card_budget
from bot.engine.options import EngineOptions, LoadProgress
from bot.errors import EngineError, EngineErrorKind
from bot.words import mark

GIB: Final = 2**30


_REPORT_EVERY_S: Final = 0.5


def require_gpu() -> None:
    """Raise `EngineError` (`LOAD_FAILED`) without a CUDA GPU that computes in bfloat16."""
    if not torch.cuda.is_available():
        raise EngineError(
            EngineErrorKind.LOAD_FAILED,
            "torch.cuda.is_available() is false",
            sentence=mark(
                "This model needs an NVIDIA GPU that PyTorch can use, and there is none here; "
                "IMAGE_MODEL_NAME=tiny draws toy pictures without one."
            ),
        )

    capability = torch.cuda.get_device_capability()
    if capability < (8, 0):
        raise EngineError(
            EngineErrorKind.LOAD_FAILED,
            f"compute capability {capability}",
            sentence=mark(
                "This model needs a card of NVIDIA's RTX 30 series or a later one; {card} has no "
                "bfloat16, in which it computes."
            ),
            values={"card": torch.cuda.get_device_name()},
        )


def take_budget(options: EngineOptions) -> CardBudget:
    """Return how much of the first card torch may reserve by now, and hold torch to it."""
    free, total = torch.cuda.mem_get_info(0)
    own = torch.cuda.memory_reserved(0)
    memory = CardMemory(total, free, own)
    budget = card_budget(memory, options.vram_gb, options.gpu_memory_utilization)
    torch.cuda.set_per_process_memory_fraction(min(1.0, max(budget.bytes, 1) / total))
    return budget


def vram_recipe(device: str, dtype: torch.dtype, *, resident: bool) -> dict[str, Any]:
    """Return the `ModelConfig` fields that store weights as `dtype` and compute in bfloat16."""
    return {
        "offload_dtype": dtype,
        "offload_device": "cpu",
        "onload_dtype": dtype,
        "onload_device": device if resident else "cpu",
        "preparing_dtype": dtype,
        "preparing_device": device,
        "computation_dtype": torch.bfloat16,
        "computation_device": device,
    }


def _small(name: str, tensor: torch.Tensor) -> bool:
    return tensor.ndim == 1 and "norm" in name


class ReportingDiskMap(DiskMap):
    """DiffSynth's lazy reader of safetensors files, which reports how far it is.

    Normalisation weights stay in bfloat16: FP8 has 3 bits for them, and they are tiny.
    """

    def __init__(
        self, paths: tuple[Path, ...], dtype: torch.dtype, report: Callable[[float], None]
    ) -> None:
        super().__init__([str(path) for path in paths], "cpu")
        self._dtype = dtype
        self._report = report
        self._read = 0

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = super().__getitem__(name)
        self._read += 1
        self._report(self._read / len(self.name_map))
        return tensor.to(torch.bfloat16 if _small(name, tensor) else self._dtype)


def throttled(stage: str, progress: LoadProgress) -> Callable[[float], None]:
    """Return a function that reports the share done of `stage`, now and then and at its end."""
    last = 0.0

    def report(fraction: float) -> None:
        nonlocal last
        now = time.monotonic()
        if fraction >= 1.0 or now - last >= _REPORT_EVERY_S:
            last = now
            progress(stage, fraction)

    return report


def keep_precise(pipe: torch.nn.Module) -> None:
    """Undo FP8 where it costs quality and saves nothing: norms, and rotary frequencies.

    DiffSynth casts every tensor of a wrapped module, buffers too. The text encoder's rotary
    frequencies reach down to 1e-6, which FP8 rounds to zero.
    """
    for module in pipe.modules():
        if isinstance(module, AutoWrappedModule):
            parameters = list(module.module.parameters())
            if not parameters:
                dtype = torch.float32
            elif all(p.ndim == 1 for p in parameters):
                dtype = torch.bfloat16
            else:
                continue
            module.offload_dtype = module.onload_dtype = module.preparing_dtype = dtype
            module.computation_dtype = dtype
