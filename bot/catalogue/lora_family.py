"""The transformer that a LoRA file is made for, by the names of the layers in its header."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from bot.catalogue.lora_format import read_format
from bot.catalogue.lora_layers import QWEN_IMAGE, QWEN_IMAGE_21, LoraTarget
from bot.errors import EngineError

_LENGTH_BYTES: Final = 8
# A file's of the largest rank and all layers has less than a tenth of it.
_LONGEST_HEADER: Final = 8 * 2**20
_REMEMBERED: Final = 4096
_TARGETS: Final = (QWEN_IMAGE, QWEN_IMAGE_21)


def made_for(path: Path) -> LoraTarget | None:
    """Return the one transformer whose layers a file changes; blocks on the disk.

    None where that is not known: the file cannot be read, or is understood for several or for none.
    What is wrong with it then is told by the engine, and by the doctor.
    """
    try:
        stat = path.stat()
        return _made_for(path, stat.st_mtime_ns, stat.st_size)
    except OSError:
        return None


@lru_cache(_REMEMBERED)
def _made_for(path: Path, _mtime_ns: int, _size: int) -> LoraTarget | None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        text = file.read(length) if length <= _LONGEST_HEADER else b""
    try:
        header: dict[str, Any] = json.loads(text)
        metadata = header.pop("__metadata__", {})
        shapes = {key: tensor["shape"] for key, tensor in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    found = [target for target in _TARGETS if _fits(path.stem, shapes, metadata, target)]
    return found[0] if len(found) == 1 else None


def _fits(name: str, shapes: dict[str, Any], metadata: dict[str, str], target: LoraTarget) -> bool:
    try:
        read_format(name, shapes, metadata, target)
    except (EngineError, KeyError, TypeError, AttributeError, IndexError):
        return False
    return True
