"""Headers of safetensors files: which tensors are in one and where, without reading them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_LENGTH_BYTES: Final = 8
_LONGEST_HEADER: Final = 100_000_000  # as the safetensors library has it


@dataclass(frozen=True, slots=True)
class Header:
    """A header: its `text`, what that says (`__metadata__` included), where the tensors begin."""

    text: bytes
    entries: dict[str, Any]
    begin: int


def read_header(path: Path) -> Header:
    """Return a file's header.

    The format: 8 bytes with the header's length, the header in JSON with each tensor's place after
    it, the tensors (https://huggingface.co/docs/safetensors). Raises `ValueError` that says what is
    wrong with the file, its size included.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if not 0 < length <= min(max(0, size - _LENGTH_BYTES), _LONGEST_HEADER):
                raise ValueError("is cut off, or no safetensors file")
            text = file.read(length)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    try:
        entries: dict[str, Any] = json.loads(text)
        ends = [part["data_offsets"][1] for key, part in entries.items() if key != "__metadata__"]
        wanted = _LENGTH_BYTES + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        raise ValueError("has a damaged header") from None
    if size != wanted:
        cut = f"is cut off: {size:,} of {wanted:,} bytes" if size < wanted else "is too long"
        raise ValueError(cut)
    return Header(text, entries, _LENGTH_BYTES + length)
