"""Published safetensors files: what is in them, and single tensors of them, read when asked for.

Nothing is mapped: one mapping as large as a file is refused where main memory is smaller, and on
Windows each counts as memory in use.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from bot.engine.files.cache_index import CacheIndex, PublishedFile
from bot.engine.files.find import known_as
from bot.engine.files.header import read_header
from bot.errors import EngineError, EngineErrorKind, filled
from bot.words import mark

DTYPES: Final[Mapping[str, torch.dtype]] = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "I8": torch.int8,
    "I64": torch.int64,
    "U8": torch.uint8,
}


DTYPE_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}


class TensorPlace(NamedTuple):
    """Where a tensor's bytes lie."""

    path: Path
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return math.prod(self.shape) * self.dtype.itemsize


def load_error(sentence: str, detail: str | None = None, **values: str) -> EngineError:
    """Return an `EngineError` (`LOAD_FAILED`) whose sentence is fit for the user."""
    return EngineError(
        EngineErrorKind.LOAD_FAILED,
        detail or filled(sentence, values),
        sentence=sentence,
        values=values,
    )


def read_tensor(place: TensorPlace, whole: Tensor | None = None) -> Tensor:
    """Read a tensor into `whole`, flat bytes of its size, or into memory of its own.

    Raises `OSError`, `EOFError` where the file is too short.
    """
    raw = torch.empty(place.size, dtype=torch.uint8) if whole is None else whole
    buffer: Any = raw.numpy()
    left = memoryview(buffer)
    with place.path.open("rb", buffering=0) as file:
        file.seek(place.offset)
        while left.nbytes:
            if not (count := file.readinto(left)):
                raise EOFError(f"{place.path} ends {left.nbytes} bytes too soon")
            left = left[count:]
    return raw.view(place.dtype).view(place.shape)


class Sources:
    """One network's published files: those that are there, and those that `index` remembers.

    What files that are gone have left to be packed is read from where the index has it carried.
    With `arriving`, more files of the network are still to come. Raises `EngineError`
    (`LOAD_FAILED`) with a sentence that names the file which is missing, damaged or lacks a weight.
    """

    def __init__(
        self, files: Sequence[Path], index: CacheIndex | None = None, *, arriving: bool = False
    ) -> None:
        self.files = tuple(sorted(files))
        self.read: set[str] = set()
        """Names of the tensors that were asked for so far."""
        self.published: dict[str, PublishedFile] = {}
        """All files by name, whether they are there or gone."""
        self._places: dict[str, TensorPlace] = {}
        for path in self.files:
            self.published[path.name] = self._opened(path)
        fits = index is not None and index.fits(self.published)
        if index is not None and fits:
            self.published = {n: f for n, f in index.published.items() if f.taken} | self.published
            if index.carried is not None:
                self._opened(index.folder / index.carried)
        self._arriving = arriving
        self._homes = self._read_index(arriving=arriving, strange=index is not None and not fits)
        self._specs = {
            name: (DTYPES[kind], shape)
            for file in self.published.values()
            for name, (kind, shape) in file.tensors.items()
        }

    def _read_index(self, *, arriving: bool, strange: bool) -> dict[str, str]:
        """Return which weight is in which file, by the index beside them; all must be known."""
        homes: dict[str, str] = {}
        for folder in sorted({path.parent for path in self.files}):
            for path in sorted(folder.glob("*.safetensors.index.json")):
                try:
                    homes = json.loads(path.read_text("utf-8"))["weight_map"]
                except (OSError, ValueError, KeyError, TypeError) as error:
                    raise load_error(
                        mark("The model file {file} is damaged."),
                        f"{path}: {error!r}",
                        file=known_as(path),
                    ) from error
                unknown = set[str]() if arriving else set(homes.values()) - self.published.keys()
                for name in sorted(unknown):
                    file = folder / name
                    if strange:
                        raise load_error(
                            mark(
                                "The model file {file} is not what the weights cache was made of, "
                                "and others are missing: delete it, or the cache, which is made "
                                "anew."
                            ),
                            f"{self.files}, without {file}",
                            file=known_as(self.files[0]),
                        )
                    raise load_error(
                        mark("The model file {file} is missing."), str(file), file=known_as(file)
                    )
        return homes

    def _opened(self, path: Path) -> PublishedFile:
        """Note where the tensors of a file lie; return what is to be remembered of it."""
        try:
            status = path.stat()
            header = read_header(path)
            tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
            for name, entry in header.entries.items():
                if name != "__metadata__":
                    shape, begin = tuple(entry["shape"]), entry["data_offsets"][0]
                    place = TensorPlace(path, header.begin + begin, DTYPES[entry["dtype"]], shape)
                    self._places.setdefault(name, place)
                    tensors[name] = entry["dtype"], shape
        except FileNotFoundError as error:
            raise load_error(
                mark("The model file {file} is missing."), str(path), file=known_as(path)
            ) from error
        except (OSError, ValueError, KeyError) as error:
            raise damaged(path, error) from error
        digest = hashlib.sha256(header.text).hexdigest()
        return PublishedFile(status.st_size, status.st_mtime_ns, digest, tensors)

    @property
    def names(self) -> list[str]:
        """All tensors' names, those of files that are still to come included."""
        return list(dict.fromkeys((*self._specs, *(self._homes if self._arriving else ()))))

    @property
    def listed(self) -> bool:
        """Whether it is known what files that are still to come have."""
        return bool(self._homes)

    def spec(self, name: str) -> tuple[torch.dtype, tuple[int, ...]]:
        """Return a tensor's type and shape."""
        self._require(name)
        return self._specs[name]

    def knows(self, name: str) -> bool:
        """Tell whether a tensor's type and shape are known."""
        return name in self._specs

    def readable(self, name: str) -> bool:
        """Tell whether a tensor's bytes are there."""
        return name in self._places

    def place(self, name: str) -> TensorPlace:
        """Return where a tensor's bytes lie."""
        self._require(name)
        place = self._places.get(name)
        if place is None:
            file = next(n for n, file in self.published.items() if name in file.tensors)
            raise load_error(
                mark("The model file {file} is missing."), f"{file}: has {name}", file=file
            )
        return place

    def tensor(self, name: str) -> Tensor:
        """Read a tensor into memory of its own."""
        place = self.place(name)
        self.read.add(name)
        try:
            return read_tensor(place)
        except (OSError, EOFError) as error:
            raise damaged(place.path, error) from error

    def _require(self, name: str) -> None:
        if name not in self._specs:
            folder = self.files[0].parent if self.files else Path()
            file = self._homes.get(name)
            detail = f"{folder}: lacks the weight {name}"
            if file is None:
                raise load_error(
                    mark("The model's folder {folder} lacks the weight {name}."),
                    detail,
                    folder=folder.name,
                    name=name,
                )
            raise load_error(
                mark("The model file {file} lacks the weight {name}."),
                detail,
                file=known_as(folder / file),
                name=name,
            )


def damaged(path: Path, error: Exception) -> EngineError:
    """Return an `EngineError` (`LOAD_FAILED`) that names a file which cannot be read."""
    return load_error(
        mark("The model file {file} is damaged; deleted, it is downloaded again."),
        f"{path}: {error!r}",
        file=known_as(path),
    )
