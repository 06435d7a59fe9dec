"""The weights cache's index: which items of a network lie where, and what they were made of.

`PART.json` in the cache's folder, beside `PART.weights`, which is nothing but the items' bytes. It
remembers what the published files' headers say, so that a whole cache needs none of them, and is
replaced as a whole, after what it names has reached the disk: a conversion goes on from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from bot.engine.files.replacing import replacing

FORMAT: Final = 2
"""To be raised when older items are of no use any more. (1 was one safetensors file a network.)"""

_ABSENT: Final = (FileNotFoundError, NotADirectoryError)

Spec = tuple[str, tuple[int, ...]]
"""A tensor's type, as safetensors calls it, and its shape."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A published file: size in bytes, time of change, SHA-256 of its header, tensors by name.

    `taken`: all of its tensors are in the cache (or carried beside it), so that it may be gone.
    """

    size: int
    mtime_ns: int
    header_sha256: str
    tensors: Mapping[str, Spec]
    taken: bool = False

    def same_as(self, other: PublishedFile) -> bool:
        """Tell whether both are one file, as far as that can be known without reading it all."""
        mine = (self.size, self.mtime_ns, self.header_sha256)
        return mine == (other.size, other.mtime_ns, other.header_sha256)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies: its first byte's offset in the item's file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item: `form` is a hash of how it was made, `crc32` of its tensors' bytes in order."""

    form: str
    file: str
    crc32: str
    end: int
    """The offset after its last byte."""
    tensors: Mapping[str, StoredTensor]


@dataclass
class CacheIndex:
    """What the cache of one network (`stem`) in `folder` holds.

    `carried` names a safetensors file of what came from files that are gone and is in no item yet.
    """

    folder: Path
    stem: str
    complete: bool = False
    published: dict[str, PublishedFile] = field(default_factory=dict)
    items: dict[str, StoredItem] = field(default_factory=dict)
    carried: str | None = None

    @property
    def path(self) -> Path:
        """The file that it is kept in."""
        return self.folder / f"{self.stem}.json"

    @property
    def taken(self) -> frozenset[str]:
        """Names of the published files that may be gone."""
        return frozenset(name for name, file in self.published.items() if file.taken)

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(max(0, _size(self.folder / name)) for name in _files(self))

    def fits(self, present: Mapping[str, PublishedFile]) -> bool:
        """Tell whether the cache was or is being made of these files."""
        for name, file in present.items():
            known = self.published.get(name)
            if known is None:
                if self.complete:
                    return False
            elif not known.same_as(file):
                return False
        return True

    @classmethod
    def load(cls, folder: Path, part: str) -> Self:
        """Return the index of the network `part`, an empty one if there is none that can be read.

        Items whose bytes are not there are left out; the cache is not complete then. Raises
        OSError where the disk fails: what may be there must not be taken for nothing.
        """
        stem = stem_of(part)
        empty = cls(folder, stem)
        try:
            read = json.loads(empty.path.read_text("utf-8"))
            if read["format"] != FORMAT:
                return empty
            made = cls(
                folder,
                stem,
                read["complete"],
                {name: _published(file) for name, file in read["published"].items()},
                {key: _item(item) for key, item in read["items"].items()},
                read["carried"],
            )
            made.forget_what_is_gone()
        except (*_ABSENT, ValueError, KeyError, TypeError, AttributeError):
            return empty
        return made

    def forget_what_is_gone(self) -> None:
        """Leave out items whose bytes are not there: whatever they were made of is not in it."""
        sizes = {name: _size(self.folder / name) for name in _files(self)}
        gone = [key for key, item in self.items.items() if item.end > sizes[item.file]]
        for key in gone:
            del self.items[key]
        if gone or (self.carried is not None and sizes[self.carried] < 0):
            self.complete, self.carried = False, None
            self.published = {n: replace(file, taken=False) for n, file in self.published.items()}

    def save(self) -> None:
        """Write it, in one step; raise OSError."""
        text = json.dumps(
            {
                "format": FORMAT,
                "complete": self.complete,
                "published": {name: asdict(file) for name, file in self.published.items()},
                "items": {key: asdict(item) for key, item in self.items.items()},
                "carried": self.carried,
            }
        )
        with replacing(self.path) as file:
            file.write(text.encode())


def stem_of(part: str) -> str:
    """Return how the names of the cache's files of a network begin."""
    return part.replace(" ", "-")


def _files(index: CacheIndex) -> Iterable[str]:
    names = {item.file for item in index.items.values()}
    if index.carried is not None:
        names.add(index.carried)
    if any(Path(name).name != name for name in names):
        raise ValueError("a file of the cache is elsewhere")
    return names


def _size(path: Path) -> int:
    """Return a file's bytes, -1 if there is none; raise OSError."""
    try:
        return path.stat().st_size
    except _ABSENT:
        return -1


def _published(read: Mapping[str, Any]) -> PublishedFile:
    tensors = {name: (kind, tuple(shape)) for name, (kind, shape) in read["tensors"].items()}
    return PublishedFile(
        read["size"], read["mtime_ns"], read["header_sha256"], tensors, read["taken"]
    )


def _item(read: Mapping[str, Any]) -> StoredItem:
    tensors = {
        name: StoredTensor(tensor["dtype"], tuple(tensor["shape"]), tensor["offset"])
        for name, tensor in read["tensors"].items()
    }
    return StoredItem(read["form"], read["file"], read["crc32"], read["end"], tensors)
