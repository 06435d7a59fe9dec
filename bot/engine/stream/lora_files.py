"""The folder of LoRA files: found by name, read once, the last few kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from bot.catalogue.lora_layers import QWEN_IMAGE, LoraTarget
from bot.engine.stream.lora import Lora, check_numbers, parse
from bot.errors import EngineError, EngineErrorKind, filled
from bot.words import mark

# How many maps of files are kept, the last used ones; they take no memory of their own.
_KEPT: Final = 4


class _File(NamedTuple):
    """A map of a file, which has been checked for finite numbers, and its header's metadata."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def _read(name: str, path: Path, target: LoraTarget) -> _File:
    with safe_open(path, framework="pt") as opened:
        metadata: dict[str, str] = opened.metadata() or {}
    tensors = load_file(path)
    # Names first: they tell more, and a file of another model need not be read.
    parse(name, tensors, metadata=metadata, target=target)
    check_numbers(name, tensors)
    return _File(tensors, metadata)


class LoraFiles:
    """The LoRAs of a folder, each by its file's name without `.safetensors`.

    `target` is what they have to be made for.
    """

    def __init__(self, folder: Path, target: LoraTarget = QWEN_IMAGE) -> None:
        self._folder = folder
        self._target = target
        self._kept: OrderedDict[tuple[str, int, int], _File] = OrderedDict()

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""
        return sorted(path.stem for path in self._folder.glob("*.safetensors"))

    def take(self, wanted: Sequence[tuple[str, float]]) -> tuple[Lora, ...]:
        """Return the LoRAs of these names and strengths.

        Raises `EngineError` (`REFUSED`) with a sentence that names the LoRA which is missing,
        damaged, not understood as a whole or made for another model.
        """
        return tuple(self._one(name, strength) for name, strength in wanted)

    def _one(self, name: str, strength: float) -> Lora:
        # From the folder's own listing, so that no name leads out of it.
        if name not in self.names():
            if not (known := ", ".join(self.names()[:20])):
                raise _refused(mark("There is no LoRA {name}; there are none."), name=name)
            raise _refused(
                mark("There is no LoRA {name}; there are {known}."), name=name, known=known
            )
        path = self._folder / f"{name}.safetensors"
        try:
            about = path.stat()
            key = (name, about.st_mtime_ns, about.st_size)
            if key not in self._kept:
                self._kept[key] = _read(name, path, self._target)
            file = self._kept[key]
            version, target = about.st_mtime_ns, self._target
            lora = parse(name, file.tensors, strength, version, file.metadata, target)
        except (OSError, SafetensorError) as error:
            sentence = mark("The file {file} is damaged or cannot be read.")
            raise _refused(sentence, type(error).__name__, file=path.name) from error
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return lora


def _refused(sentence: str, detail: str | None = None, **values: str) -> EngineError:
    return EngineError(
        EngineErrorKind.REFUSED,
        detail or filled(sentence, values),
        sentence=sentence,
        values=values,
    )
