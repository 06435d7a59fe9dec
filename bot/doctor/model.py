"""Checks of a model's files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bot.catalogue.models import ModelSpec, Published
from bot.config.settings import Settings
from bot.doctor.each import for_each_model
from bot.doctor.finding import Finding, Level
from bot.engine.files.arrivals import partial_files
from bot.engine.files.cache_index import CacheIndex
from bot.engine.files.download import noted_hashes
from bot.engine.files.find import (
    bytes_to_fetch,
    cache_indexes,
    cached_precision,
    elsewhere,
    find,
    holder,
    home,
    known_as,
)
from bot.engine.files.header import read_header

_GB: Final = 1e9
_SHA256_DIGITS: Final = 64
_TINY: Final = Path(__file__).parents[1] / "engine" / "tiny" / "weights"


@for_each_model
def model_files(settings: Settings, spec: ModelSpec) -> Iterator[Finding]:
    """Look which files are missing, unfinished or cut off; their headers and sizes alone."""
    published = spec.published
    if published is None:
        folder, missing = _TINY, [] if list(_TINY.glob("*.safetensors")) else [_TINY]
    else:
        folder, missing = model_home(settings, spec), missing_files(settings, spec)
    files = weights(folder, published)
    broken = 0
    for path in files:
        if problem := damage(path):
            broken += 1
            yield Finding(
                "model files",
                Level.ERROR,
                f"{path} {problem}",
                "delete it: the next picture downloads it again",
            )
    unfinished = [*sorted(folder.rglob("*.incomplete")), *partial_files(folder)]
    if unfinished:
        size = sum(path.stat().st_size for path in unfinished)
        yield Finding(
            "model files",
            Level.WARNING,
            f"{len(unfinished)} downloads are unfinished ({size / _GB:.1f} GB in {folder})",
            "none, if the bot is downloading; else the next picture goes on with them",
        )
    if missing:
        yield _absent(settings, spec, folder, files, missing, published)
    elif not broken:
        size = sum(path.stat().st_size for path in files)
        text = f"{spec.name}: {len(files)} files, {size / _GB:.1f} GB, "
        if taken := len(taken_files(settings, spec)):
            text += f"and the weights cache, which has {taken} more in it, "
        if others := shared_parts(settings, spec):
            text += f"and {' and '.join(others)} of {next(iter(others.values()))}, "
        yield Finding("model files", Level.OK, f"{text}complete in {folder}")


@for_each_model
def licence(_settings: Settings, spec: ModelSpec) -> Iterator[Finding]:
    """Say what the model's authors allow."""
    published = spec.published
    said = "this bot's own" if published is None else published.licence
    yield Finding("licence", Level.OK, f"of {spec.name}: {said}")


def cache_to_come(settings: Settings, spec: ModelSpec) -> int:
    """Return the bytes of a model's weights cache that is still to be made."""
    published, indexes = spec.published, _indexes(settings, spec)
    stored = [index for index in indexes.values() if index.items]
    if published is None or not indexes or (stored and all(index.complete for index in stored)):
        return 0
    return max(0, published.cache_bytes - cache_bytes(settings, spec))


def cache_bytes(settings: Settings, spec: ModelSpec) -> int:
    """Return the bytes of a model's weights cache that is there."""
    return sum(index.size for index in _indexes(settings, spec).values())


def stored_precision(settings: Settings, spec: ModelSpec) -> str | None:
    """Return the precision of the model's weights cache by these settings; None: it has none."""
    root, offload = settings.image_model_path, settings.image_offload
    return cached_precision(root, spec.name, offload, settings.image_precision)


@for_each_model
def model_hashes(settings: Settings, spec: ModelSpec) -> Iterator[Finding]:
    """Compare each file with the SHA-256 that the hub gave for it; takes minutes."""
    published = spec.published
    if published is None:
        yield Finding("model hashes", Level.OK, "the tiny model is part of the bot")
        return
    folder = model_home(settings, spec)
    files = weights(folder, published)
    unknown = wrong = 0
    for path in files:
        wanted = _recorded_hash(folder, path)
        if wanted is None:
            unknown += 1
            continue
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != wanted:
            wrong += 1
            yield Finding(
                "model hashes",
                Level.ERROR,
                f"{path} is not what the hub published (SHA-256 {found[:12]}…)",
                "delete it: the next picture downloads it again",
            )
    if not wrong:
        compared = len(files) - unknown
        rest = f"; no hash is recorded for {unknown}" if unknown else ""
        text = f"{compared} of {len(files)} compared and right{rest}"
        if files and not compared:
            step = "none needed; a file that you delete is downloaded again, and its hash noted"
            yield Finding("model hashes", Level.WARNING, text, step)
        else:
            yield Finding("model hashes", Level.OK, text)


def damage(path: Path) -> str | None:
    """Return what is wrong with a safetensors file, by its header and size."""
    try:
        read_header(path)
    except ValueError as error:
        return str(error)
    return None


def model_home(settings: Settings, spec: ModelSpec) -> Path:
    """Return the folder that a model's files lie in, or will."""
    return home(settings.image_model_path, spec.name)


def weights(folder: Path, published: Published | None) -> list[Path]:
    """Return a model's weight files that are in its folder."""
    # Other models and what is made of this one lie beside its networks.
    if published is None:
        return sorted(folder.glob("*.safetensors"))
    folders = (folder / network.folder for network in published.networks)
    return sorted(path for part in folders for path in part.rglob("*.safetensors"))


def missing_files(settings: Settings, spec: ModelSpec) -> list[Path]:
    """Return the files that a model lacks; empty where it is built in."""
    if spec.built_in:
        return []
    return find(settings.image_model_path, spec.name, stored_precision(settings, spec))[1]


def shared_parts(settings: Settings, spec: ModelSpec) -> dict[str, str]:
    """Return the parts that another model's folder has for it, and that model's name."""
    return elsewhere(settings.image_model_path, spec.name, stored_precision(settings, spec))


def _indexes(settings: Settings, spec: ModelSpec) -> dict[str, CacheIndex]:
    return cache_indexes(settings.image_model_path, spec.name, stored_precision(settings, spec))


def taken_files(settings: Settings, spec: ModelSpec) -> dict[Path, int]:
    """Return the published files that are gone and in the cache, and how large each was."""
    published, others = spec.published, shared_parts(settings, spec)
    files = {
        model_home(settings, spec) / network.folder / name: file.size
        for network in (published.networks if published else ())
        if network.part not in others
        if (index := _indexes(settings, spec).get(network.part)) is not None
        for name, file in index.published.items()
        if file.taken
    }
    return {path: size for path, size in files.items() if not path.is_file()}


def _absent(
    settings: Settings,
    spec: ModelSpec,
    folder: Path,
    files: list[Path],
    missing: list[Path],
    published: Published | None,
) -> Finding:
    name = spec.name
    if not files:
        text = f"{name} is not in {folder.absolute()} yet"
    else:
        names = ", ".join(known_as(path) for path in missing[:3])
        text = f"{name} is not complete in {folder.absolute()}: {names} missing"
    root = settings.image_model_path
    if root != folder and (other := holder(root)) is not None:
        text += f" (the files in {root} are taken for {other}'s)"
    if (held := _in_hub_cache(name)) is not None:
        return Finding(
            "model files",
            Level.WARNING,
            f"{text}, but the hub's cache has it",
            f"set IMAGE_MODEL_PATH={held}, or let the first picture download it again",
        )
    wanted = bytes_to_fetch(root, name, stored_precision(settings, spec))
    size = f"about {wanted / _GB:.0f} GB" if published else "nothing"
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "ON", "YES"}
    return Finding(
        "model files",
        Level.ERROR if offline else Level.WARNING,
        f"{text}, and HF_HUB_OFFLINE forbids to download it" if offline else text,
        f"the first picture downloads it ({size} in all); or now: python -m bot download",
    )


def _in_hub_cache(name: str) -> Path | None:
    """Return a complete snapshot in the hub's own cache, where other programs leave it."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    folder = cache / f"models--{name.replace('/', '--')}" / "snapshots"
    complete = (path for path in sorted(folder.glob("*")) if find(path, name)[0] is not None)
    return next(complete, None)


def _recorded_hash(folder: Path, path: Path) -> str | None:
    """Return the SHA-256 that the bot or the hub's client noted when it downloaded the file.

    The client's note has three lines: the revision, the entity tag and the time; for large files
    the tag is the hash (huggingface_hub, `_local_folder.py`).
    """
    name = path.relative_to(folder)
    if (noted := noted_hashes(folder).get(name.as_posix())) is not None:
        return noted
    note = folder / ".cache/huggingface/download" / name.parent / f"{name.name}.metadata"
    try:
        lines = note.read_text("utf-8").split("\n")
    except OSError:
        return None
    tag = lines[1].strip().lower() if len(lines) > 1 else ""
    is_hash = len(tag) == _SHA256_DIGITS and all(c in "0123456789abcdef" for c in tag)
    return tag if is_hash else None
