"""A download that needs little disk: each file is packed into the cache as it arrives, and deleted.

A block's tensors lie in two files now and then. What a file has of an item that is not complete yet
is carried in a file of its own until the rest arrives, so one published file at a time is enough.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch

from bot.catalogue.models import Network, find_model
from bot.engine.files.arrivals import RemoteFile
from bot.engine.files.cache_index import stem_of
from bot.engine.files.download import explained
from bot.engine.files.find import cache_folder, elsewhere, fetch_missing, find, found, home
from bot.engine.files.lock import folder_lock
from bot.engine.files.model_files import ModelFiles
from bot.engine.files.replacing import replacing
from bot.engine.files.stages import DOWNLOADING_AND_CONVERTING
from bot.engine.options import LoadProgress
from bot.engine.stream.cachefile import WeightsCache
from bot.engine.stream.items import Item, PackedForms
from bot.engine.stream.layout import Precision
from bot.engine.stream.parts import (
    PARTS,
    ModelParts,
    text_geometry,
    text_items,
    transformer_items,
)
from bot.engine.stream.published import DTYPE_NAMES, Sources
from bot.engine.stream.storage import Storage
from bot.errors import EngineError

# What an engine on a GPU computes in, and so the form that it looks for.
_DTYPE: Final = torch.bfloat16


def _transformer(sources: Sources, storage: Storage, parts: ModelParts) -> list[Item]:
    return transformer_items(
        sources, _DTYPE, storage=storage, modulation_storage=storage, parts=parts.blocks
    )


def _text(sources: Sources, storage: Storage, parts: ModelParts) -> list[Item]:
    return text_items(sources, text_geometry(sources), _DTYPE, storage, parts.text)


_ITEMS: Final[Mapping[str, Callable[[Sources, Storage, ModelParts], list[Item]]]] = {
    "transformer": _transformer,
    "text encoder": _text,
}
"""How each network that has a cache is cut, by its `part`."""


class Dropper:
    """A `Taker` of the files in `folder` of one model, which fills the cache in `cache`."""

    def __init__(
        self,
        folder: Path,
        cache: Path,
        networks: Sequence[Network],
        share: float,
        progress: LoadProgress,
        storage: Storage,
        parts: ModelParts,
    ) -> None:
        """`share` is how many bytes of cache come of a byte of the files, about.

        Raises OSError where what is cached already cannot be read.
        """
        self._folder = folder
        self._cache = cache
        self._networks = {net.folder: net for net in networks if net.part in _ITEMS}
        self._share = share
        self._progress = progress
        self._storage = storage
        self._parts = parts
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._taken = {part: _taken(WeightsCache(cache, part)) for part in _ITEMS}
        self._packed = 0
        self._alone = 0

    @property
    def counted(self) -> int:
        """See `Taker`."""
        return sum(self._taken.values()) + self._packed

    def takes(self, path: str) -> bool:
        """See `Taker`."""
        return Path(path).parent.name in self._networks and path.endswith(".safetensors")

    def room(self, files: Sequence[RemoteFile], present: Container[str]) -> int:
        """See `Taker`. What is made of a file is reckoned as the model's average share of it."""
        now = most = 0
        for file in files:
            now += 0 if file.path in present else file.size
            if self.takes(file.path):
                now += int(file.size * self._share)
                most = max(most, now)
                now -= file.size
            most = max(most, now)
        return most

    def take(self, path: str) -> None:
        """See `Taker`. Whatever else of the network lies there is taken with it."""
        network = self._networks[Path(path).parent.name]
        with folder_lock(self._cache, stem_of(network.part), self._progress):
            self._take(network)

    def finish(self) -> None:
        """Take what lies there, and could not be taken before all of its network was there."""
        folders = (self._folder / name for name in self._networks)
        files = [path for folder in folders for path in folder.glob("*.safetensors")]
        self._alone = self.counted + sum(path.stat().st_size for path in files)
        for network in self._networks.values():
            with folder_lock(self._cache, stem_of(network.part), self._progress):
                self._take(network, all_there=True)
        if files:
            self._progress(DOWNLOADING_AND_CONVERTING, 1.0)

    def _take(self, network: Network, *, all_there: bool = False) -> None:
        """Pack what can be packed of the network's files, and delete them."""
        files = sorted((self._folder / network.folder).glob(f"{network.stem}*.safetensors"))
        cache = WeightsCache(self._cache, network.part)
        if not files:
            cache.sweep()
            return
        sources = Sources(files, cache.index, arriving=not all_there)
        if not cache.index.fits(sources.published):
            cache.clear()
        items = self._items(network.part, sources, all_there=all_there)
        if items is None:
            return
        try:
            if self._pack(cache, sources, items):
                cache.finish(sources.published)
            else:
                cache.commit()
                _carry(cache, sources, items)
                cache.made_of(sources.published, taken=True)
                cache.commit()
        finally:
            cache.close()
        for path in files:
            path.unlink()
        self._packed = 0
        self._taken[network.part] = _taken(cache)

    def _items(self, part: str, sources: Sources, *, all_there: bool) -> list[Item] | None:
        """Return the network's items; None while it is not known which there are, or how wide."""
        if all_there:
            return _ITEMS[part](sources, self._storage, self._parts)
        if not sources.listed:
            return None
        try:
            return _ITEMS[part](sources, self._storage, self._parts)
        except EngineError:  # The first block is still to come.
            return None

    def _pack(self, cache: WeightsCache, sources: Sources, items: Sequence[Item]) -> bool:
        """Write the items whose tensors are all there; tell whether the cache has all items now."""
        forms, whole = PackedForms(sources), True
        for item in items:
            names = item.tensors.values()
            known = all(sources.knows(name) for name in names)
            if known and cache.has(item.key, forms.form(item)):
                continue
            if not known or not all(sources.readable(name) for name in names):
                whole = False
                continue
            state = {name: sources.tensor(full) for name, full in item.tensors.items()}
            packed = item.packer.pack(state, self._device)
            self._packed += sum(tensor.nbytes for tensor in state.values())
            cache.write(item.key, forms.form(item), packed)
            if self._alone:
                self._progress(
                    DOWNLOADING_AND_CONVERTING, min(1.0, self.counted / max(1, self._alone))
                )
            del state, packed  # or they would live while the next ones are made
        return whole


def _taken(cache: WeightsCache) -> int:
    return sum(file.size for file in cache.index.published.values() if file.taken)


def _carry(cache: WeightsCache, sources: Sources, items: Sequence[Item]) -> None:
    """Put what is there of items that are not complete into a file that outlives its own."""
    names = [
        name
        for item in items
        if item.key not in cache.index.items
        for name in item.tensors.values()
        if sources.readable(name)
    ]
    with replacing(cache.carried) as file:
        write_tensors(file, sources, names)
    cache.index.carried = cache.carried.name


def write_tensors(file: BinaryIO, sources: Sources, names: Sequence[str]) -> None:
    """Write tensors as a safetensors file, one after the other; raise OSError."""
    header: dict[str, object] = {}
    end = 0
    for name in names:
        place = sources.place(name)
        begin, end = end, end + place.size
        kind = {"dtype": DTYPE_NAMES[place.dtype], "shape": list(place.shape)}
        header[name] = kind | {"data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        raw: Any = sources.tensor(name).reshape(-1).view(torch.uint8).numpy()
        file.write(raw)


def download_and_drop(
    root: Path, progress: LoadProgress, *, repository: str, source: str, precision: str
) -> ModelFiles:
    """Fill the model's weights cache, and have no more of its published files than that needs.

    Returns what is left of them. What another model's folder has (`elsewhere`) stays there as it
    is. Goes on where it ended before; what lies there already is not
    downloaded. Raises `EngineError` (`LOAD_FAILED`) as `ensure` does.
    """
    model = find_model(repository)
    published = model.published
    folder, cache = home(root, repository), cache_folder(root, repository, precision)
    assert published is not None
    storage = Precision(precision).storage
    share = published.cache_bytes / published.download_bytes
    parts = PARTS[model.family]
    with explained(repository, source, "", "IMAGE_MODEL_PATH"):
        others = elsewhere(root, repository, precision)
        own = [network for network in published.networks if network.part not in others]
        dropper = Dropper(folder, cache, own, share, progress, storage, parts)
    files, missing = find(root, repository, precision)
    if files is None:
        fetch_missing(root, repository, source, progress, missing[0], precision, dropper)
    with explained(repository, source, "", "IMAGE_MODEL_PATH"):
        dropper.finish()
    return found(root, repository, precision)
