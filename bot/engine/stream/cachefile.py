"""The weights cache of one network: plain bytes in files, and an index that says what lies where.

Each tensor is read with plain reads into the buffer where it stays, and compared with its item's
CRC-32 there. Items are only ever appended.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch
from torch import Tensor

from bot.engine.files.cache_index import (
    CacheIndex,
    PublishedFile,
    StoredItem,
    StoredTensor,
    stem_of,
)
from bot.engine.files.replacing import sync_folder
from bot.engine.stream.layout import Packed
from bot.engine.stream.pinned import own_pages
from bot.engine.stream.published import DTYPE_NAMES, DTYPES, TensorPlace, read_tensor

_FLAT: Final = "flat"
_SMALL: Final = "small."
_PIECE: Final = 2**24
# What a cut-off conversion loses at most. Each saving waits until all is on the disk.
_SAVE_BYTES: Final = 2**30


class CacheDamaged(Exception):
    """The file is not what was written."""


def parts(packed: Packed) -> dict[str, Tensor]:
    """Return an item's tensors by their names in the index."""
    small = {f"{_SMALL}{name}": tensor for name, tensor in packed.small.items()}
    return {**small, _FLAT: packed.flat}


class WeightsCache:
    """The items of the network `part` in `folder`. Threads may read; one writes, and is alone.

    What is written counts once `commit` has saved the index. Writing raises OSError, and so does
    opening an index that is there and cannot be read.
    """

    def __init__(self, folder: Path, part: str) -> None:
        self.index = CacheIndex.load(folder, part)
        self._data = folder / f"{stem_of(part)}.weights"
        self._file: BinaryIO | None = None
        self._unsaved: dict[str, int] = {}

    @property
    def carried(self) -> Path:
        """Where tensors wait whose files are gone and whose items are not complete."""
        return self.index.folder / f"{self.index.stem}.carried.safetensors"

    def has(self, key: str, form: str) -> bool:
        """Tell whether an item is there that was made in this way."""
        item = self.index.items.get(key)
        return item is not None and item.form == form

    def read(
        self, key: str, *, verify: bool = True, memory: Callable[[int], Tensor] = own_pages
    ) -> Packed:
        """Read an item; `flat` into what `memory` returns for so many bytes.

        Raises `CacheDamaged`.
        """
        tensors: dict[str, Tensor] = {}
        try:
            item, crc = self.index.items[key], 0
            for name, stored in item.tensors.items():
                place = _place(self.index.folder, item, stored)
                whole = memory(place.size) if name == _FLAT else None
                tensors[name] = read_tensor(place, whole)
                if verify:
                    crc = zlib.crc32(_bytes(tensors[name]), crc)
            flat = tensors.pop(_FLAT)
        except (OSError, EOFError, KeyError) as error:
            raise CacheDamaged(repr(error)) from error
        if verify and f"{crc:08x}" != item.crc32:
            raise CacheDamaged("its checksum is wrong")
        return Packed(flat, {name.removeprefix(_SMALL): t for name, t in tensors.items()})

    def check(self, key: str) -> None:
        """Compare an item's checksum without keeping it in memory; raise `CacheDamaged`."""
        piece = bytearray(_PIECE)
        try:
            item, crc = self.index.items[key], 0
            for stored in item.tensors.values():
                place = _place(self.index.folder, item, stored)
                left = place.size
                with place.path.open("rb", buffering=0) as file:
                    file.seek(place.offset)
                    while left and (size := file.readinto(memoryview(piece)[:left])):
                        crc = zlib.crc32(memoryview(piece)[:size], crc)
                        left -= size
        except (OSError, KeyError) as error:
            raise CacheDamaged(repr(error)) from error
        if f"{crc:08x}" != item.crc32:
            raise CacheDamaged("its checksum is wrong")

    def place(self, key: str, name: str) -> TensorPlace:
        """Return where the small tensor `name` of an item lies."""
        item = self.index.items[key]
        return _place(self.index.folder, item, item.tensors[f"{_SMALL}{name}"])

    def write(self, key: str, form: str, packed: Packed) -> None:
        """Write an item behind the others."""
        self.index.items[key] = _written(self._opened(), self._data.name, form, packed)
        self._unsaved[key] = sum(tensor.nbytes for tensor in parts(packed).values())
        if sum(self._unsaved.values()) >= _SAVE_BYTES:
            self.commit()

    def commit(self) -> None:
        """Have all that was written count."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        self.index.save()
        self._unsaved.clear()

    def finish(self, files: Mapping[str, PublishedFile]) -> None:
        """Have it count as the whole of what was made of these files, which may go from now on."""
        self.made_of(files, taken=True)
        self.index.complete, self.index.carried = True, None
        self.commit()
        with suppress(OSError):  # It is all there, whatever else lies beside it.
            self.sweep()

    def sweep(self) -> None:
        """Remove what a whole cache has no need of; raise OSError."""
        if self.index.complete:
            for pattern in (f"{self.index.stem}.carried.*", f"{self.index.stem}.json.*"):
                for path in self.index.folder.glob(pattern):
                    path.unlink(missing_ok=True)

    def made_of(self, files: Mapping[str, PublishedFile], *, taken: bool) -> None:
        """Remember published files, and that all of each is `taken`, if it was not before."""
        before = self.index.taken
        for name, file in files.items():
            self.index.published[name] = replace(file, taken=taken or name in before)

    def close(self) -> None:
        """Close what is being written to; what was not committed is of no use."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def give_up(self) -> None:
        """Have nothing count that was written since the last `commit`: it may not be there."""
        self.close()
        for key in self._unsaved:
            self.index.items.pop(key, None)
        self._unsaved.clear()
        self.index.complete = False

    def clear(self) -> None:
        """Remove all of it, and what other versions of it have left; raise OSError."""
        self.close()
        folder, stem = self.index.folder, self.index.stem
        folder.mkdir(parents=True, exist_ok=True)
        # The index first: it must never name what another conversion wrote.
        for pattern in (f"{stem}.json*", f"{stem}.weights", f"{stem}.carried.*", f"{stem}-*"):
            for path in folder.glob(pattern):
                if path.suffix in {".json", ".partial", ".weights", ".safetensors"}:
                    path.unlink(missing_ok=True)
        sync_folder(folder)
        self.index = CacheIndex(folder, stem)
        self._unsaved.clear()

    def _opened(self) -> BinaryIO:
        """Open the file that is appended to, after the last item that counts."""
        if self._file is None:
            items = self.index.items.values()
            ends = [item.end for item in items if item.file == self._data.name]
            self.index.folder.mkdir(parents=True, exist_ok=True)
            if not ends:
                # Not cut off: another engine may still read an older one.
                self._data.unlink(missing_ok=True)
            self._file = self._data.open("r+b" if ends else "x+b", buffering=0)
            self._file.truncate(max(ends, default=0))
            self._file.seek(0, os.SEEK_END)
        return self._file


def _place(folder: Path, item: StoredItem, stored: StoredTensor) -> TensorPlace:
    return TensorPlace(folder / item.file, stored.offset, DTYPES[stored.dtype], stored.shape)


def _written(file: BinaryIO, name: str, form: str, packed: Packed) -> StoredItem:
    """Write an item's tensors one after the other; return what the index says of it."""
    crc, offset = 0, file.tell()
    tensors: dict[str, StoredTensor] = {}
    for key, tensor in parts(packed).items():
        data = _bytes(tensor.cpu())
        left = memoryview(data)
        while left.nbytes:
            left = left[file.write(left) :]
        crc = zlib.crc32(data, crc)
        tensors[key] = StoredTensor(DTYPE_NAMES[tensor.dtype], tuple(tensor.shape), offset)
        offset += tensor.nbytes
    return StoredItem(form, name, f"{crc:08x}", offset, tensors)


def _bytes(tensor: Tensor) -> Any:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
