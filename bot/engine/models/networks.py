"""Networks loaded by DiffSynth, in FP8 or bfloat16, on the card while they are in use.

A network whose weights fit the budget in bfloat16 is kept in that, any other in FP8; one that does
not fit in FP8 either is brought to the card layer by layer. Which of them stay there while others
work is decided for each picture (on_card.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from diffsynth import configs
from diffsynth.models.model_loader import ModelPool

from bot.engine.card_budget import CardBudget
from bot.engine.files.download import load_error
from bot.engine.files.find import ensure
from bot.engine.files.model_files import ModelFiles
from bot.engine.files.stages import LOADING
from bot.engine.models.vram import (
    GIB,
    ReportingDiskMap,
    require_gpu,
    take_budget,
    throttled,
    vram_recipe,
)
from bot.engine.options import EngineOptions, LoadProgress
from bot.words import mark

# Beside the weights: activations (a 2.4-megapixel picture has 2.2 GiB in a VAE) and one layer's
# bfloat16 copy.
_WORKING_GIB: Final = 2.0
_FP8: Final = torch.float8_e4m3fn


@dataclass(frozen=True, slots=True)
class Store:
    """How weights are kept: their type, and whether all of them go to the card or `limit_gib`."""

    dtype: torch.dtype
    resident: bool
    limit_gib: float | None


def store(bytes_: int, budget_gib: float, *, exact: bool) -> Store:
    """Return how to keep `bytes_` of 16-bit weights; `exact`: not in FP8."""
    room = max(1.0, budget_gib - _WORKING_GIB)
    wide = bytes_ / GIB
    if exact or wide <= room:
        fits = wide <= room
        return Store(torch.bfloat16, fits, None if fits else room)
    fits = wide / 2 <= room
    return Store(_FP8, fits, None if fits else room)


def open_card(
    model: str, options: EngineOptions, progress: LoadProgress
) -> tuple[ModelFiles, Callable[[], CardBudget]]:
    """Return the model's files, and what measures the budget and makes it PyTorch's limit.

    Raises `EngineError` (`LOAD_FAILED`) without a CUDA GPU or without the model's files.
    """
    require_gpu()
    files = ensure(options.model_path, progress, repository=model, source=options.model_source)
    return files, partial(take_budget, options)


def load_networks(
    files: ModelFiles,
    known: Mapping[str, str],
    device: str,
    budget_gib: float,
    progress: LoadProgress,
    *,
    exact: bool,
) -> dict[str, Any]:
    """Return the networks, by DiffSynth's names for them.

    `known` maps a network's `part` to that name. DiffSynth would tell a file's network by a hash
    of its tensors' names and shapes; here the registry does.

    Raises `EngineError` (`LOAD_FAILED`) with the folder's name where its layers do not fit.
    """
    sizes = {part: sum(path.stat().st_size for path in files.networks[part]) for part in known}
    found: dict[str, Any] = {}
    for part, name in known.items():
        paths = files.networks[part]
        kept = store(sizes[part], budget_gib, exact=exact or part == "VAE")
        recipe = vram_recipe(device, kept.dtype, resident=kept.resident)
        limit = None if device == "cpu" else kept.limit_gib
        report = throttled(LOADING[part], progress)
        found[name] = _load(name, paths, recipe, limit, report)
    return found


def _load(
    name: str,
    paths: tuple[Path, ...],
    recipe: dict[str, Any],
    limit: float | None,
    report: Callable[[float], None],
) -> Any:
    entry = next(one for one in configs.MODEL_CONFIGS if one["model_name"] == name)
    # DiffSynth asks for a dict and only ever iterates over it.
    weights: Any = ReportingDiskMap(paths, recipe["offload_dtype"], report)
    names = [str(path) for path in paths]
    try:
        return ModelPool().load_model_file(
            entry, names, vram_config=recipe, vram_limit=limit, state_dict=weights
        )
    except (RuntimeError, KeyError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise load_error(
            mark("The files in {folder} are another model's: the layers do not fit."),
            f"{paths[0].parent}: {str(error)[:500]}",
            folder=paths[0].parent.name,
        ) from error
