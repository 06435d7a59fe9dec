"""A table of rows that stays on the disk: of a gigabyte, a prompt looks a few rows up."""

from __future__ import annotations

import weakref

import torch
from torch import Tensor

from bot.engine.stream.published import TensorPlace


class StoredTable:
    """A matrix [rows, width] in a file, which is kept open: it may be replaced by another one.

    Raises `OSError` where the file cannot be opened.
    """

    def __init__(self, place: TensorPlace) -> None:
        self.place = place
        self._file = place.path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)

    def rows(self, ids: Tensor) -> Tensor:
        """Return the rows [n, width] that `ids` [n] name, on the CPU.

        Raises `OSError`, `EOFError` where the file is cut off, and `IndexError` for a row that the
        table does not have.
        """
        count, width = self.place.shape
        found = torch.empty((len(ids), width), dtype=self.place.dtype)
        raw = found.view(torch.uint8).reshape(len(ids), -1).numpy()
        for row, target in zip(ids.tolist(), raw, strict=True):
            if not 0 <= row < count:
                raise IndexError(f"row {row} of {count}")
            self._file.seek(self.place.offset + row * target.nbytes)
            left = memoryview(target)
            while left.nbytes:
                if not (size := self._file.readinto(left)):
                    raise EOFError(f"{self.place.path} is cut off")
                left = left[size:]
        return found
