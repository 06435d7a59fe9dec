"""A transformer of two blocks in the published layout, and what its weights cache has to hold."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    import torch
    from safetensors.torch import save

    from bot.engine.stream.any_dit import AnyDiT

from bot.catalogue.models import MODELS, Network
from bot.engine.files import download as downloads
from bot.engine.files.cache_index import CacheIndex
from bot.engine.files.download import noted_hashes
from bot.engine.stream import cache as caches
from bot.engine.stream.cache import Checkpoint
from bot.engine.stream.cachefile import CacheDamaged, WeightsCache, parts
from bot.engine.stream.items import PackedForms
from bot.engine.stream.layout import Geometry
from bot.engine.stream.parts import transformer_items
from bot.engine.stream.published import Sources
from bot.engine.stream.storage import Storage
from tests.engine.hub import REPOSITORY

__all__ = ["REPOSITORY", "CacheIndex", "noted_hashes"]


def _share_shapes(forms: Any, begin: Any, shapes: Any, sources: Sources) -> None:
    begin(forms, sources)
    forms._shapes = shapes


torch.set_num_threads(1)
# Folders in memory are smaller than disks are.
caches._SPARE_BYTES = downloads._SPARE_BYTES = 0

# Far fewer than there are items: the last are asked for long after the first.
caches._READERS = 1
# What comes out of an item takes most of the time, and no disk.
PackedForms.__init__ = partialmethod(_share_shapes, PackedForms.__init__, {})

CPU = torch.device("cpu")
PART = "transformer"
STEM = "diffusion_pytorch_model"
NETWORK = Network(PART, PART, STEM, sharded=True)


def offer() -> None:
    """Have these files be all that the model has."""
    whole = MODELS[REPOSITORY].published
    assert whole is not None
    size = sum(map(len, published().values()))
    small = replace(
        whole, networks=(NETWORK,), tokenizer_files=(), download_bytes=size, cache_bytes=size
    )
    MODELS[REPOSITORY] = replace(MODELS[REPOSITORY], published=small)


def published() -> dict[str, bytes]:
    """Return three files, cut where one is full, and their index, which block lies where."""
    torch.manual_seed(3)
    state = {n: v.bfloat16() for n, v in AnyDiT(Geometry(2, 32, 1), 32).state_dict().items()}
    whole = sum(tensor.nbytes for tensor in state.values())
    shards: list[dict[str, torch.Tensor]] = [{}, {}, {}]
    end = 0
    for name, tensor in state.items():
        shards[end * 3 // whole][name] = tensor.contiguous()
        end += tensor.nbytes
    names = [f"{STEM}-{i:05}-of-00003.safetensors" for i in (1, 2, 3)]
    homes = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    files = {f"{PART}/{name}": save(shard) for name, shard in zip(names, shards, strict=True)}
    return {
        f"{PART}/{STEM}.safetensors.index.json": json.dumps({"weight_map": homes}).encode()
    } | files


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def weights(root: Path) -> list[Path]:
    return sorted((root / PART).glob("*.safetensors"))


def checkpoint(root: Path, cache: Path | None) -> Checkpoint:
    index = None if cache is None else CacheIndex.load(cache, PART)
    sources = Sources(weights(root), index)
    items = transformer_items(
        sources, torch.bfloat16, storage=Storage.FP8, modulation_storage=Storage.FP8
    )
    return Checkpoint(PART, sources, items, cache)


Values = dict[str, dict[str, bytes]]


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def loaded(made: Checkpoint) -> Values:
    """Return the bytes of all that is loaded, by item and tensor."""
    items = made.load(CPU, lambda *_: None)
    return {key: {n: raw(t) for n, t in parts(packed).items()} for key, packed in items}


def forms(root: Path) -> dict[str, str]:
    """Return what each item of the cache has to be called, by all of the published files."""
    made = checkpoint(root, None)
    return {item.key: PackedForms(made.sources).form(item) for item in made.items}


def cached(folder: Path) -> Values:
    """Return what the cache has, of damaged items nothing."""
    cache = WeightsCache(folder, PART)
    found: Values = {}
    for key in cache.index.items:
        with suppress(CacheDamaged):
            found[key] = {name: raw(tensor) for name, tensor in parts(cache.read(key)).items()}
    return found


def carried(folder: Path) -> dict[str, bytes]:
    """Return the tensors that the cache has besides its items, as they were published."""
    name = CacheIndex.load(folder, PART).carried
    return {} if name is None else tensors(folder / name)


def tensors(path: Path) -> dict[str, bytes]:
    """Return the bytes of all tensors of a file."""
    sources = Sources([path], arriving=True)
    return {name: raw(sources.tensor(name)) for name in sources.names if sources.readable(name)}


def homes(root: Path) -> dict[str, str]:
    """Return which item of the cache each published tensor belongs to."""
    return {
        name: item.key for item in checkpoint(root, None).items for name in item.tensors.values()
    }
