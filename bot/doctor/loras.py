"""The check of the LoRA files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bot.catalogue.lightning import SERIES
from bot.catalogue.lora_format import read_format
from bot.catalogue.lora_layers import LoraTarget, lora_target
from bot.catalogue.loras import Loras
from bot.catalogue.models import ModelSpec
from bot.config.loras import lora_folder
from bot.config.settings import Settings
from bot.doctor.each import naming
from bot.doctor.finding import Finding, Level
from bot.doctor.model import damage
from bot.engine.files.header import read_header
from bot.errors import EngineError

_CHECK: Final = "LoRA files"


def lora_files(settings: Settings) -> Iterator[Finding]:
    """Compare IMAGE_LORAS with what lies in IMAGE_LORA_PATH; read the files' headers and sizes.

    Of several models, a file is right where one can be drawn with it.
    """
    models = [(spec, lora_folder(settings, spec).look()) for spec in settings.models]
    used = [(spec, found) for spec, found in models if found.refusal is None]
    if not used:
        yield Finding(_CHECK, Level.OK, "not used: the model or IMAGE_OFFLOAD draws without")
        return
    folder = settings.image_lora_path
    fitting: dict[str, set[str]] = {spec.name: set() for spec, _found in models}
    wrong = [*_about_names(folder, used[0][1]), *_misnamed(folder, used)]
    for file, choosing in _files(used).items():
        path = folder / f"{file}.safetensors"
        if problem := damage(path):
            text = f"{path} {problem}"
            wrong.append(Finding(_CHECK, Level.WARNING, text, "delete it, and get it again"))
            continue
        problems = [
            (_not_understood(file, path, lora_target(spec.family)), spec) for spec in choosing
        ]
        for problem, spec in problems:
            if problem is None:
                fitting[spec.name].add(file)
        if all(problem for problem, _spec in problems):
            problem, spec = problems[0]
            name = lora_target(spec.family).model
            step = f"get it for {name} as a plain LoRA, or take it away (docs/loras.md)"
            wrong.append(Finding(_CHECK, Level.WARNING, f"{path}: {problem}", step))
    yield from wrong
    if wrong:
        return
    for spec, found in models:
        count = sum(choice.file in fitting[spec.name] for choice in found.choices)
        line = Finding(_CHECK, Level.OK, _told(settings, spec, found, count))
        yield line if len(models) == 1 else naming(spec, line)


def _about_names(folder: Path, found: Loras) -> Iterator[Finding]:
    """Tell of files that IMAGE_LORAS names and that are not there, and of names that none can have.

    Both are the same for every model.
    """
    for file in found.missing:
        yield Finding(
            _CHECK,
            Level.WARNING,
            f"IMAGE_LORAS names {file}.safetensors, which is not in {folder.absolute()}",
            "put the file there, or take it out of IMAGE_LORAS",
        )
    for file in found.unusable:
        yield Finding(
            _CHECK,
            Level.WARNING,
            f"no request can name the file {file}.safetensors",
            "rename it: letters, digits, spaces, dots, - and _",
        )


def _misnamed(folder: Path, used: Sequence[tuple[ModelSpec, Loras]]) -> Iterator[Finding]:
    """Tell of files that are named as Lightning files for a model and are for another one."""
    for spec, found in used:
        for file in found.misnamed:
            yield Finding(
                _CHECK,
                Level.WARNING,
                f"{folder / file}.safetensors has another model's layers than {spec.name}, for "
                "whose quality fast it is named",
                "delete it, and get it again: python -m bot download "
                f"{spec.name} --lightning (docs/loras.md)",
            )


def _files(used: Sequence[tuple[ModelSpec, Loras]]) -> dict[str, list[ModelSpec]]:
    """Return each file with the models that may be drawn with it; the Lightning files first."""
    files: dict[str, list[ModelSpec]] = {}
    for spec, found in used:
        if found.lightning:
            files.setdefault(found.lightning.file, []).append(spec)
    for spec, found in used:
        for choice in found.choices:
            choosing = files.setdefault(choice.file, [])
            if spec not in choosing:
                choosing.append(spec)
    return files


def _told(settings: Settings, spec: ModelSpec, found: Loras, count: int) -> str:
    """Return what there is to say of a model's `count` LoRAs, where nothing is wrong."""
    if found.refusal is not None:
        return "not used: the model draws without"
    text = f"{count} to choose from in {settings.image_lora_path.absolute()}"
    if found.lightning is not None:
        text += f"; the quality fast draws with {found.lightning.file}"
    elif spec.name in SERIES and not settings.image_quality_fast:
        name = f" {spec.name}" if len(settings.models) > 1 else ""
        text += f"; for a faster quality fast: python -m bot download{name} --lightning"
    return text


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
