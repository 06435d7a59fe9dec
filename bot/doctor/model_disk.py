"""The check of the disk that the models' files lie on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bot.catalogue.models import ModelSpec, sharing
from bot.config.settings import Settings
from bot.doctor.disk import existing
from bot.doctor.finding import Finding, Level
from bot.doctor.model import (
    cache_bytes,
    cache_to_come,
    missing_files,
    model_home,
    shared_parts,
    stored_precision,
    taken_files,
    weights,
)
from bot.engine.files.arrivals import partial_files
from bot.engine.files.find import bytes_to_fetch

_GB: Final = 1e9


def model_disk(settings: Settings) -> Iterator[Finding]:
    """Compare the room beside the models with what is still to come there, of all together."""
    disks = by_disk(settings, settings.models)
    if not disks:
        yield Finding("model disk", Level.OK, "the tiny model is part of the bot")
    for place, wanted in disks:
        free, sum_wanted = shutil.disk_usage(place).free, sum(size for _spec, size in wanted)
        text = (
            f"{free / _GB:.0f} GB free at {place.absolute()}, {sum_wanted / _GB:.0f} GB still to "
            "come"
        )
        if len(settings.models) > 1:
            each = ", ".join(f"{spec.name} {size / _GB:.0f}" for spec, size in wanted)
            text += f" ({each})"
        if free >= sum_wanted:
            yield Finding("model disk", Level.OK, text)
            continue
        step = "make room, or set IMAGE_MODEL_PATH to a larger disk"
        if any(stored_precision(settings, spec) is not None for spec, _size in wanted):
            # One published file at a time takes less than compiled code does later.
            least = sum(_least(settings, spec, size) for spec, size in wanted)
            step += (
                f"; python -m bot download needs {least / _GB:.0f} GB: it keeps no files that the "
                "weights cache has"
            )
        yield Finding("model disk", Level.ERROR, text, step)


def by_disk(
    settings: Settings, models: Sequence[ModelSpec]
) -> list[tuple[Path, list[tuple[ModelSpec, int]]]]:
    """Return each disk's folder with the bytes that models still want there; built-in ones none."""
    disks: dict[int, tuple[Path, list[tuple[ModelSpec, int]]]] = {}
    counted = set[str]()
    for spec in models:
        if spec.published is not None:
            place = existing(model_home(settings, spec))
            disk = disks.setdefault(place.stat().st_dev, (place, []))
            size = _to_come(settings, spec)
            if not counted.isdisjoint(sharing(spec.name)):
                size = max(0, size - _shared_to_come(settings, spec))
            counted.add(spec.name)
            disk[1].append((spec, size))
    return list(disks.values())


def still_needed(settings: Settings, models: Sequence[ModelSpec], *, drop: bool) -> int:
    """Return the bytes that a download of `models` still needs, on all disks together.

    With `drop`, files that the weights cache holds are not kept beside it.
    """
    wanted = [pair for _place, pairs in by_disk(settings, models) for pair in pairs]
    return sum(_least(settings, spec, size) if drop else size for spec, size in wanted)


def _to_come(settings: Settings, spec: ModelSpec) -> int:
    """Return the bytes of a model's files and cache that are not there yet."""
    folder, published = model_home(settings, spec), spec.published
    assert published is not None
    files = [*weights(folder, published), *partial_files(folder)]
    there = sum(path.stat().st_size for path in files) + sum(taken_files(settings, spec).values())
    missing = missing_files(settings, spec)
    precision = stored_precision(settings, spec)
    all_bytes = bytes_to_fetch(settings.image_model_path, spec.name, precision)
    wanted = max(0, all_bytes - there) if missing else 0
    return wanted + cache_to_come(settings, spec)


def _shared_to_come(settings: Settings, spec: ModelSpec) -> int:
    """Return the bytes in `_to_come` that come once for all models which share them."""
    published = spec.published
    if published is None or not missing_files(settings, spec) or shared_parts(settings, spec):
        return 0
    return published.shared_bytes + published.shared_cache_bytes


def _least(settings: Settings, spec: ModelSpec, to_come: int) -> int:
    """Return the bytes that a download which drops what it has packed still needs."""
    if spec.published is None or stored_precision(settings, spec) is None:
        return to_come
    return max(0, spec.published.cache_bytes - cache_bytes(settings, spec))
