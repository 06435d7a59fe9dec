"""The check of the LoRA files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bot.catalogue.lightning import SERIES
from bot.catalogue.lora_format import read_format
from bot.catalogue.lora_layers import LoraTarget, lora_target
from bot.config.loras import lora_folder
from bot.config.settings import Settings
from bot.doctor.finding import Finding, Level
from bot.doctor.model import damage
from bot.engine.files.header import read_header
from bot.errors import EngineError

_CHECK: Final = "LoRA files"


def lora_files(settings: Settings) -> Iterator[Finding]:
    """Compare IMAGE_LORAS with what lies in IMAGE_LORA_PATH; read the files' headers and sizes."""
    folder = lora_folder(settings)
    found = folder.look()
    target = lora_target(settings.model.family)
    wrong = 0
    for file in found.missing:
        wrong += 1
        yield Finding(
            _CHECK,
            Level.WARNING,
            f"IMAGE_LORAS names {file}.safetensors, which is not in {folder.path.absolute()}",
            "put the file there, or take it out of IMAGE_LORAS",
        )
    for file in found.unusable:
        wrong += 1
        yield Finding(
            _CHECK,
            Level.WARNING,
            f"no request can name the file {file}.safetensors",
            "rename it: letters, digits, spaces, dots, - and _",
        )
    fast = [found.lightning.file] if found.lightning else []
    for file in [*fast, *(choice.file for choice in found.choices)]:
        path = folder.path / f"{file}.safetensors"
        if problem := damage(path):
            wrong += 1
            yield Finding(_CHECK, Level.WARNING, f"{path} {problem}", "delete it, and get it again")
        elif found.refusal is None and (problem := _not_understood(file, path, target)):
            wrong += 1
            step = f"get it for {target.model} as a plain LoRA, or take it away (docs/loras.md)"
            yield Finding(_CHECK, Level.WARNING, f"{path}: {problem}", step)
    if found.refusal is not None:
        yield Finding(_CHECK, Level.OK, "not used: the model or IMAGE_OFFLOAD draws without")
    elif not wrong:
        text = f"{len(found.choices)} to choose from in {folder.path.absolute()}"
        if found.lightning is not None:
            text += f"; the quality fast draws with {found.lightning.file}"
        elif settings.image_model_name in SERIES and not folder.fast_is_set:
            text += "; for a faster quality fast: python -m bot download --lightning"
        yield Finding(_CHECK, Level.OK, text)


def _not_understood(name: str, path: Path, target: LoraTarget) -> str | None:
    """Return why no picture can be drawn with a file, by its header."""
    header = read_header(path).entries
    metadata = header.pop("__metadata__", {})
    try:
        shapes = {key: tensor["shape"] for key, tensor in header.items()}
        read_format(name, shapes, metadata, target)
    except EngineError as error:
        return error.sentence
    except (KeyError, TypeError, AttributeError):
        return "its header is damaged"
    return None
