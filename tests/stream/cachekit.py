"""What the tests of the weights cache share."""

from __future__ import annotations

from pathlib import Path

from bot.engine.child.quick_imports import quick_imports
from bot.engine.stream.storage import Storage

with quick_imports():
    import torch


from bot.engine.files.cache_index import CacheIndex
from bot.engine.stream.cache import Checkpoint
from bot.engine.stream.parts import transformer_items
from bot.engine.stream.published import Sources

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


def opened(root, *, folder=True, storage=Storage.FP8, part="transformer", **options):
    place = root / "fp8-cache" if folder else None
    index = CacheIndex.load(place, part) if folder else None
    sources = Sources(sorted((root / part).glob("*.safetensors")), index)
    items = transformer_items(sources, torch.bfloat16, storage=storage, modulation_storage=storage)
    return Checkpoint(part, sources, items, place, **options)


def loaded(checkpoint, progress=lambda *_: None):
    return dict(checkpoint.load(CPU, progress))


def same(one, two):
    return (
        list(one) == list(two)
        and all(torch.equal(one[key].flat, two[key].flat) for key in one)
        and all(list(one[key].small) == list(two[key].small) for key in one)
        and all(
            torch.equal(a, b) and a.dtype == b.dtype
            for key in one
            for a, b in zip(one[key].small.values(), two[key].small.values(), strict=True)
        )
    )


def files_in(root):
    folder = root / "fp8-cache"
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


# What is written and read
