"""One safetensors file of packed blocks: written front to back, checked block by block.

Each item is a contiguous run of tensors with a CRC-32 in the header's metadata. The header's
length is known beforehand, so the sums are filled in at the end, in place.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bot.engine.stream.layout import Packed
from bot.engine.stream.published import DTYPES, read_header

_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}
_PAGE: Final = 4096
_ALIGNMENT: Final = 64
_FLAT: Final = "flat"
_SMALL: Final = "small."
_UNKNOWN: Final = "0" * 8


class CacheDamaged(Exception):
    """The file is not what was written."""


def parts(packed: Packed) -> dict[str, Tensor]:
    """Return an item's tensors by their names in the file."""
    small = {f"{_SMALL}{name}": tensor for name, tensor in packed.small.items()}
    return {**small, _FLAT: packed.flat}


class FilePlan:
    """Where everything lies. `items` has tensors of the right shapes and types, without values."""

    def __init__(self, items: Mapping[str, Packed], identity: str) -> None:
        self.identity = identity
        self.sizes = {key: sum(t.nbytes for t in parts(p).values()) for key, p in items.items()}
        self.tensors: dict[str, dict[str, Any]] = {}
        self._pads: dict[str, int] = {}
        end = 0
        for key, packed in items.items():
            for name, tensor in parts(packed).items():
                full = f"{key}/{name}"
                # The format knows no gaps, so a gap is a tensor of its own.
                if gap := -end % _ALIGNMENT:
                    end = self._place(f"{full}.pad", "U8", [gap], end, gap)
                    self._pads[full] = gap
                kind, shape = _NAMES[tensor.dtype], list(tensor.shape)
                end = self._place(full, kind, shape, end, tensor.nbytes)
        self.size = len(self.header({})) + end

    def _place(self, name: str, kind: str, shape: list[int], start: int, size: int) -> int:
        span = [start, start + size]
        self.tensors[name] = {"dtype": kind, "shape": shape, "data_offsets": span}
        return start + size

    def header(self, sums: Mapping[str, str]) -> bytes:
        """Return the file's beginning, whose length doesn't depend on `sums`."""
        crc = {key: sums.get(key, _UNKNOWN) for key in self.sizes}
        metadata = {"format": "pt", "identity": self.identity, "crc32": json.dumps(crc)}
        text = json.dumps({"__metadata__": metadata, **self.tensors}).encode()
        text += b" " * (-(8 + len(text)) % _PAGE)
        return len(text).to_bytes(8, "little") + text

    def gap(self, name: str) -> bytes:
        """Return the bytes between tensor `name` and what comes before it."""
        return bytes(self._pads.get(name, 0))


class CacheWriter:
    """Writes to `temporary`; only `commit` makes it `path`. Raises OSError."""

    def __init__(self, path: Path, temporary: Path, plan: FilePlan) -> None:
        self._path = path
        self._temporary = temporary
        self._plan = plan
        self._sums: dict[str, str] = {}
        self._file: BinaryIO = temporary.open("xb")
        self._file.write(plan.header({}))

    def write(self, key: str, packed: Packed) -> None:
        """Append the next item."""
        crc = 0
        for name, tensor in parts(packed).items():
            data = _bytes(tensor.cpu())
            self._file.write(self._plan.gap(f"{key}/{name}"))
            self._file.write(data)
            crc = zlib.crc32(data, crc)
        self._sums[key] = f"{crc:08x}"

    def commit(self) -> None:
        """Finish the file and give it its name."""
        assert self._file.tell() == self._plan.size
        self._file.seek(0)
        self._file.write(self._plan.header(self._sums))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self._path)
        if os.name == "posix":
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def abort(self) -> None:
        """Remove what was written, if it was not committed."""
        with suppress(OSError):  # what is still buffered can't be written either
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)


class CacheReader:
    """The mapped file; raises `CacheDamaged` unless its header and size are those of `plan`."""

    def __init__(self, path: Path, plan: FilePlan) -> None:
        try:
            size = path.stat().st_size
            header: dict[str, Any] = json.loads(read_header(path))
            metadata = header.pop("__metadata__")
            self._sums: dict[str, str] = json.loads(metadata["crc32"])
            self._file: Any = safe_open(path, framework="pt", device="cpu")
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise CacheDamaged(repr(error)) from error
        if size != plan.size:
            raise CacheDamaged(f"{size} bytes instead of {plan.size}")
        if metadata["identity"] != plan.identity or header != plan.tensors:
            raise CacheDamaged("its header is another model's")
        self._names: dict[str, list[str]] = {key: [] for key in plan.sizes}
        for full in plan.tensors:
            if not full.endswith(".pad"):
                key, name = full.rsplit("/", 1)
                self._names[key].append(name)

    def item(self, key: str) -> Packed:
        """Return views of the file."""
        tensors = {name: self._file.get_tensor(f"{key}/{name}") for name in self._names[key]}
        flat = tensors.pop(_FLAT)
        return Packed(flat, {name.removeprefix(_SMALL): t for name, t in tensors.items()})

    def check(self, key: str, packed: Packed) -> None:
        """Read the whole item; raise `CacheDamaged` if its sum is wrong. Threads may call it."""
        crc = 0
        for tensor in parts(packed).values():
            crc = zlib.crc32(_bytes(tensor), crc)
        if self._sums.get(key) != f"{crc:08x}":
            raise CacheDamaged(f"the checksum of {key} is wrong")


def _bytes(tensor: Tensor) -> Any:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
