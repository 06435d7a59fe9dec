"""Published safetensors files: what is in them, and single tensors of them, read when asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bot.engine.files.find import known_as
from bot.errors import EngineError, EngineErrorKind, filled
from bot.words import mark

DTYPES: Final[Mapping[str, torch.dtype]] = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "I64": torch.int64,
    "U8": torch.uint8,
}
_LENGTH_BYTES: Final = 8
_LONGEST_HEADER: Final = 100_000_000  # as the safetensors library has it


def load_error(sentence: str, detail: str | None = None, **values: str) -> EngineError:
    """Return an `EngineError` (`LOAD_FAILED`) whose sentence is fit for the user."""
    return EngineError(
        EngineErrorKind.LOAD_FAILED,
        detail or filled(sentence, values),
        sentence=sentence,
        values=values,
    )


def read_header(path: Path) -> bytes:
    """Return the JSON of a safetensors file's header; ValueError or OSError if there is none."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if not 0 < length <= _LONGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        header = file.read(length)
    if len(header) < length:
        raise ValueError("the header is cut off")
    return header


class Sources:
    """One network's published files. `tensor` gives views of the mapped files, not copies.

    Raises `EngineError` (`LOAD_FAILED`) with a sentence that names the file which is missing,
    damaged or lacks a weight.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(sorted(files))
        self.read: set[str] = set()
        """Names of the tensors that were asked for so far."""
        self._homes: dict[str, Any] = {}
        self._specs: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
        self._identity = hashlib.sha256()
        self._index = self._read_index()
        for path in self.files:
            self._open(path)

    def _read_index(self) -> dict[str, str]:
        """Return which weight is in which file, by the index beside them; all must be there."""
        index: dict[str, str] = {}
        for folder in sorted({path.parent for path in self.files}):
            for path in sorted(folder.glob("*.safetensors.index.json")):
                try:
                    index = json.loads(path.read_text("utf-8"))["weight_map"]
                except (OSError, ValueError, KeyError, TypeError) as error:
                    raise load_error(
                        mark("The model file {file} is damaged."),
                        f"{path}: {error!r}",
                        file=known_as(path),
                    ) from error
                for name in sorted(set(index.values())):
                    if not (folder / name).is_file():
                        file = folder / name
                        raise load_error(
                            mark("The model file {file} is missing."),
                            str(file),
                            file=known_as(file),
                        )
        return index

    def _open(self, path: Path) -> None:
        try:
            status = path.stat()
            header = read_header(path)
            opened: Any = safe_open(path, framework="pt", device="cpu")
            for name, spec in json.loads(header).items():
                if name != "__metadata__":
                    self._specs[name] = DTYPES[spec["dtype"]], tuple(spec["shape"])
                    self._homes[name] = opened
        except FileNotFoundError as error:
            raise load_error(
                mark("The model file {file} is missing."), str(path), file=known_as(path)
            ) from error
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise load_error(
                mark("The model file {file} is damaged; deleted, it is downloaded again."),
                f"{path}: {error!r}",
                file=known_as(path),
            ) from error
        self._identity.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
        self._identity.update(hashlib.sha256(header).digest())

    @property
    def identity(self) -> str:
        """A hash of all files' names, sizes, times of change and headers."""
        return self._identity.hexdigest()

    @property
    def names(self) -> list[str]:
        """All tensors' names."""
        return list(self._specs)

    def spec(self, name: str) -> tuple[torch.dtype, tuple[int, ...]]:
        """Return a tensor's type and shape."""
        self._require(name)
        return self._specs[name]

    def tensor(self, name: str) -> Tensor:
        """Return a view of the file; its bytes are read when they are used."""
        self._require(name)
        self.read.add(name)
        return self._homes[name].get_tensor(name)

    def _require(self, name: str) -> None:
        if name not in self._specs:
            folder = self.files[0].parent if self.files else Path()
            file = self._index.get(name)
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
