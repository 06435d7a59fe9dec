"""Loading of the transformer from its weights cache, compared with bare reading and pinning.

`python -m bot.lab.step.load FOLDER` prints one JSON object; `bench picture` runs it. The
bare work is on the same bytes. The cache must be there already (one start of the engine writes it).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, Final

import torch

from bot.engine.files import find
from bot.engine.files.cache_index import CacheIndex
from bot.engine.stream.budget import GIB, Work
from bot.engine.stream.denoise import noise
from bot.engine.stream.device import open_device
from bot.engine.stream.loading import load_transformer
from bot.engine.stream.published import Sources
from bot.engine.stream.settings import TransformerSettings
from bot.lab.step.context import DTYPE, TEXT_TOKENS

_PIECE: Final = 256 * 2**20


def bare(cache: Path, pinned: int, device: str) -> dict[str, float]:
    """Read the file once through a pinned buffer to the device, and pin `pinned` bytes."""
    target = open_device(device)
    started = time.perf_counter()
    homes = [target.host_buffer(_PIECE, pinned=True) for _ in range(-(-pinned // _PIECE))]
    for home in homes:
        home.tensor.zero_()
    marks = [time.perf_counter()]
    staging, place = target.host_buffer(_PIECE, pinned=True), target.buffer(_PIECE)
    staged: Any = staging.tensor.numpy()
    with cache.open("rb", buffering=0) as file:
        while size := file.readinto(staged):
            place[:size].copy_(staging.tensor[:size])
    target.synchronise()
    marks.append(time.perf_counter())
    return {"pin_s": marks[0] - started, "read_s": marks[1] - marks[0]}


def copied(size: int, device: str) -> float:
    """Return the seconds that copying `size` bytes to the device takes, from unpinned memory."""
    target = open_device(device)
    source, place = target.host_buffer(_PIECE), target.buffer(_PIECE)
    source.tensor.zero_()
    started = time.perf_counter()
    for begin in range(0, size, _PIECE):
        end = min(_PIECE, size - begin)
        target.fetch(place[:end], target.host_buffer(end, held=source.tensor[:end]))
    target.synchronise()
    return time.perf_counter() - started


def _load(
    sources: Sources, settings: TransformerSettings, folder: Path
) -> tuple[dict[str, Any], int]:
    started = time.perf_counter()
    dit, stats = load_transformer(sources, settings, folder, lambda _stage, _share: None)
    dit.device.synchronise()
    loaded = time.perf_counter()
    work = settings.usual
    generator = torch.Generator().manual_seed(1)
    width = dit.network.text_width
    prompts = [torch.randn(n, width, generator=generator) for n in TEXT_TOKENS]
    timesteps = torch.linspace(1000, 25, 40)
    generation = dit.prepare(prompts, timesteps, width=work.width, height=work.height)
    dit.predict(generation, 0, noise([1], work.width, work.height, DTYPE), 4.0)
    dit.device.synchronise()
    done = time.perf_counter()
    figures: dict[str, Any] = {
        "source": stats.source,
        "load_s": loaded - started,
        "reader_s": stats.seconds,
        "of_it_checksums_s": stats.waited_s,
        "modulation_and_first_step_s": done - loaded,
        "bytes": stats.bytes,
        "resident": len(dit.resident),
        "pinned_gib": dit.weights.host_bytes / GIB,
    }
    return figures, dit.weights.host_bytes


def measure(root: Path, device: str, budget_gib: float, model: str = find.FIRST) -> dict[str, Any]:
    """Load twice (the first opens the device), then do the bare work; return the figures."""
    files, missing = find.find(root, model, "fp8")
    if files is None:
        raise SystemExit(f"There is no model in that folder: {missing[0].name} is missing.")
    index = find.cache_indexes(root, model, "fp8")["transformer"]
    sources = Sources(files.transformer, index)
    settings = TransformerSettings(
        device=device, dtype=DTYPE, budget=int(budget_gib * GIB), usual=Work(1344, 768)
    )
    folder = find.cache_folder(root, model, settings.precision)
    _, pinned = _load(sources, settings, folder)
    if device != "cpu":
        torch.cuda.empty_cache()
    found, _ = _load(sources, settings, folder)
    first = next(iter(CacheIndex.load(folder, "transformer").items.values()))
    found["bare"] = bare(folder / first.file, pinned, device)
    bare_s = sum(found["bare"].values())
    found["load_ratio"] = found["load_s"] / bare_s
    found["to_first_step_ratio"] = (found["load_s"] + found["modulation_and_first_step_s"]) / bare_s
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--budget", type=float, default=14.0)
    parser.add_argument("--model", default=find.FIRST)
    options = parser.parse_args()
    figures = measure(options.folder, options.device, options.budget, options.model)
    print(json.dumps(figures))  # noqa: T201
