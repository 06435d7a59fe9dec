"""Files of a full-size model: which are needed, which are missing, and how those are got.

A folder has the published layout: one folder for each network, and the tokenizer's. It is
`owner/name` below IMAGE_MODEL_PATH, where DiffSynth's own downloader also puts it, or
IMAGE_MODEL_PATH itself if that holds this model's files and no other's.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from bot.catalogue.models import MODELS, TOKENIZER, Network, Published, find_model, sharing
from bot.engine.files.cache_index import CacheIndex, stem_of
from bot.engine.files.download import Taker, download, explained, load_error
from bot.engine.files.header import read_header
from bot.engine.files.model_files import ModelFiles, shards
from bot.engine.files.replacing import replacing
from bot.engine.options import EngineOptions, LoadProgress
from bot.errors import EngineError
from bot.words import mark

log = logging.getLogger(__name__)

FIRST: Final = "Qwen/Qwen-Image"
"""The model whose files lie in IMAGE_MODEL_PATH itself where nothing says otherwise."""
MARKER: Final = ".model"
AUTO: Final = "auto"
"""The value of IMAGE_PRECISION that leaves the choice to the engine."""
"""A file in a model's folder with the model's name; one without it is judged by its contents."""
CACHE_FOLDERS: Final = {"fp8": "fp8-cache", "int8": "int8-cache"}
"""The folders, beside a model's files, of what is made from them: one for each form of weights."""
COMPILED_FOLDER: Final = "compiled"
"""The folder of compiled code in IMAGE_MODEL_PATH."""
_INDUCTOR_FOLDER: Final = "TORCHINDUCTOR_CACHE_DIR"
_HUB_FOLDER: Final = "models--"
_NETWORKS: Final = ("transformer", "unet", "text_encoder", "vae")
# What a transformer's config.json calls its class, where that tells models apart.
_CLASSES: Final = {"QwenImage21Transformer2DModel": "Qwen/Qwen-Image-2.1"}
_EDITS: Final = "Qwen/Qwen-Image-Edit-2511"

_delegate: Callable[[str, LoadProgress], None] | None = None


def keep_compiled_code(root: Path) -> None:
    """Have compiled code kept below `root` where that can be written, or where the user said.

    Call it before torch is imported: `torch._dynamo` (2.14) chooses a folder for temporary files
    then and keeps to it, which in a confined process is gone at the next start.
    """
    folder = root.absolute() / COMPILED_FOLDER
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK):
        os.environ.setdefault(_INDUCTOR_FOLDER, str(folder))


def cached_precision(root: Path, model: str, offload: str, precision: str) -> str | None:
    """Return the precision if an engine with these settings has a weights cache, else None.

    `auto` is settled, as far as storage goes.
    """
    streamed = find_model(model).streamed and offload == "stream"
    return as_stored(root, model, precision) if streamed and precision != "bf16" else None


def as_stored(root: Path, repository: str, precision: str) -> str:
    """Return the precision whose weights are read for `precision`, a value of IMAGE_PRECISION.

    `auto` reads INT8's, and FP8's where their weights cache is all that is left of the files.
    """
    if precision != AUTO or find_model(repository).published is None:
        return "int8" if precision == AUTO else precision
    kept = {stored: find(root, repository, stored)[0] is not None for stored in ("int8", "fp8")}
    return "fp8" if kept["fp8"] and not kept["int8"] else "int8"


def cache_indexes(root: Path, repository: str, precision: str | None) -> dict[str, CacheIndex]:
    """Return what the model's weights cache holds, by the network's `part`.

    That of a network which another model has is with that model. Those are left out that cannot be
    read.
    """
    published = find_model(repository).published
    if precision is None or published is None:
        return {}
    indexes: dict[str, CacheIndex] = {}
    for each in published.networks:
        owner = _owner(root, repository, each, precision)
        with suppress(OSError):
            indexes[each.part] = CacheIndex.load(cache_folder(root, owner, precision), each.part)
    return indexes


def holder(folder: Path) -> str | None:
    """Return the name of the model whose files lie in `folder` itself; None if no model's do.

    The marker tells, else the folder's own name (a hub's cache has `models--owner--name`), else
    what is in it. Qwen-Image and its later versions look alike: unmarked, they are Qwen-Image.
    """
    try:
        return (folder / MARKER).read_text("utf-8").strip()
    except OSError:
        pass
    parts = folder.absolute().parts
    for part in parts:
        if part.startswith(_HUB_FOLDER):
            return part.removeprefix(_HUB_FOLDER).replace("--", "/")
    if (name := "/".join(parts[-2:])) in MODELS:
        return name
    if (folder / "unet").is_dir():
        return next(
            name
            for name, spec in MODELS.items()
            if spec.published and any(net.folder == "unet" for net in spec.published.networks)
        )
    if not any((folder / name).is_dir() for name in (*_NETWORKS, ".download")):
        return None
    try:
        config = json.loads((folder / "transformer" / "config.json").read_text("utf-8"))
        if config.get("zero_cond_t") is True:
            return _EDITS
        return _CLASSES.get(config["_class_name"], FIRST)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return FIRST


def home(root: Path, repository: str) -> Path:
    """Return the folder that holds or is to hold the model's files: `root` or one below it."""
    nested = root / repository
    started = any((nested / name).is_dir() for name in _NETWORKS)
    return root if not started and holder(root) == repository else nested


def cache_home(root: Path, repository: str) -> Path:
    """Return the folder for what is made from the model's files; each model has its own.

    It is beside the files. For a nested Qwen-Image, earlier versions had it in `root`, where it
    stays.
    """
    cached = (root / CACHE_FOLDERS["fp8"]).is_dir()
    if repository == FIRST and cached and holder(root) in {None, FIRST}:  # else it is another's
        return root
    return home(root, repository)


def cache_folder(root: Path, repository: str, precision: str) -> Path:
    """Return the weights cache of `precision`, a value of IMAGE_PRECISION.

    `fp8` and `fp8-fast` share one, and so do `int8` and `int8-fast`; bf16 has none and names FP8's.
    That of `auto` is settled by `as_stored`.
    """
    form = as_stored(root, repository, precision)[:4]
    return cache_home(root, repository) / CACHE_FOLDERS.get(form, CACHE_FOLDERS["fp8"])


def find(
    root: Path, repository: str = FIRST, precision: str | None = None
) -> tuple[ModelFiles | None, list[Path]]:
    """Return the model's files under `root` and nothing missing, or None and what is missing.

    What the weights cache of `precision` has (see `cached_precision`) may be gone.
    """
    published = find_model(repository).published
    assert published is not None, "the tiny model has no published files"
    folder = home(root, repository)
    networks: dict[str, tuple[Path, ...]] = {}
    owners: dict[str, str] = {}
    missing: list[Path] = []
    for network in published.networks:
        owners[network.part] = owner = _owner(root, repository, network, precision)
        present, lacks = _there(root, owner, network, precision)
        networks[network.part] = tuple(present)
        missing += lacks
    words = _words(root, repository, published)
    missing += [words / name for name in published.tokenizer_files if not (words / name).is_file()]
    return (None, missing) if missing else (ModelFiles(folder, networks, words, owners), [])


def elsewhere(root: Path, repository: str, precision: str | None) -> dict[str, str]:
    """Return the parts of a model that another one's folder has, and that model's name.

    They need no download: the text encoder, with its tokenizer, and the VAE; see `ModelSpec.base`.
    """
    published = find_model(repository).published
    if published is None:
        return {}
    owners = {net.part: _owner(root, repository, net, precision) for net in published.networks}
    return {part: owner for part, owner in owners.items() if owner != repository}


def bytes_to_fetch(root: Path, repository: str, precision: str | None) -> int:
    """Return the bytes of the files that a model has for itself, or is to have."""
    published = find_model(repository).published
    if published is None:
        return 0
    shared = "text encoder" in elsewhere(root, repository, precision)
    return published.download_bytes - (published.shared_bytes if shared else 0)


def _there(
    root: Path, owner: str, network: Network, precision: str | None
) -> tuple[list[Path], list[Path]]:
    """Return which of a network's files `owner` has in its folder, and which it lacks."""
    taken = frozenset[str]()
    if precision is not None:
        with suppress(OSError):
            taken = CacheIndex.load(cache_folder(root, owner, precision), network.part).taken
    return shards(home(root, owner) / network.folder, network, taken)


def _owner(root: Path, repository: str, network: Network, precision: str | None) -> str:
    """Return the model whose folder has a network's files: its own, unless only another's has."""
    names = (repository, *(() if network.part == "transformer" else sharing(repository)))
    whole = (name for name in names if not _there(root, name, network, precision)[1])
    return next(whole, repository)


def _words(root: Path, repository: str, published: Published) -> Path:
    """Return the folder that has the tokenizer's files: the model's own, unless only another's."""
    homes = [home(root, name) for name in (repository, *sharing(repository))]
    files = published.tokenizer_files
    return next((one for one in homes if all((one / f).is_file() for f in files)), homes[0])


def ensure(
    root: Path,
    progress: LoadProgress,
    *,
    repository: str = FIRST,
    source: str = "huggingface",
    precision: str | None = None,
) -> ModelFiles:
    """Return the model's files, downloading what is missing; see `find` for `precision`.

    Raises `EngineError` (`LOAD_FAILED`) that names the file which is missing or damaged, or says
    why it could not be downloaded.
    """
    files, missing = find(root, repository, precision)
    if files is None:
        folder = home(root, repository)
        if folder != root and (other := holder(root)) is not None:
            log.info("%s holds %s; %s goes to %s.", root, other, repository, folder)
        if _delegate is not None:
            _delegate(repository, progress)
        else:
            fetch_missing(root, repository, source, progress, missing[0], precision)
    files = found(root, repository, precision)
    for path in files.weights:
        _check_file(path)
    return files


def ensure_for(model: str, options: EngineOptions, progress: LoadProgress) -> ModelFiles:
    """Return the files of `model` that an engine of these options needs; see `ensure`."""
    root = options.model_path
    precision = cached_precision(root, model, options.offload, options.precision)
    source = options.model_source
    return ensure(root, progress, repository=model, source=source, precision=precision)


def fetch_missing(
    root: Path,
    repository: str,
    source: str,
    progress: LoadProgress,
    missing: Path,
    precision: str | None,
    taker: Taker | None = None,
) -> None:
    """Download what the model lacks, of which `missing` is named to people; see `download`.

    Raises `EngineError` (`LOAD_FAILED`) as `download` does.
    """
    published = find_model(repository).published
    assert published is not None
    folder = home(root, repository)
    there = set(elsewhere(root, repository, precision))
    if _words(root, repository, published) != folder:
        there.add(TOKENIZER)
    download(
        folder,
        repository,
        source,
        progress,
        patterns=published.patterns_without(there),
        lacking=known_as(missing),
        taken=taken_files(root, repository, precision),
        taker=taker,
    )
    with (
        explained(repository, source, MARKER, "IMAGE_MODEL_PATH"),
        replacing(folder / MARKER) as file,
    ):
        file.write(f"{repository}\n".encode())


def found(root: Path, repository: str, precision: str | None) -> ModelFiles:
    """Return the model's files; see `find`.

    Raises `EngineError` (`LOAD_FAILED`) that names the file which is missing.
    """
    files, missing = find(root, repository, precision)
    if files is None:
        raise load_error(
            mark("The model file {file} is missing."), f"{missing[0]}", file=known_as(missing[0])
        )
    return files


def taken_files(root: Path, repository: str, precision: str | None) -> frozenset[str]:
    """Return the paths in the repository of the files that the weights cache has all of.

    Raises `EngineError` (`LOAD_FAILED`) where that cannot be read: tens of gigabytes would be
    downloaded again.
    """
    published = find_model(repository).published
    assert published is not None
    if precision is None:
        return frozenset()
    folder, taken = cache_folder(root, repository, precision), set[str]()
    for network in published.networks:
        try:
            index = CacheIndex.load(folder, network.part)
        except OSError as error:
            raise unreadable(CacheIndex(folder, stem_of(network.part)).path, error) from error
        taken |= {f"{network.folder}/{name}" for name in index.taken}
    return frozenset(taken)


def delegate_downloads(to: Callable[[str, LoadProgress], None]) -> None:
    """Have `ensure` call `to` in the place of a download, in a process that cannot do it itself.

    It is given the model's name.
    """
    global _delegate  # noqa: PLW0603 - set once, where the process begins
    _delegate = to


def known_as(path: Path) -> str:
    """Return a model file's name as users may see it: its network's folder and its own name."""
    return "/".join(path.parts[-2:])


def unreadable(path: Path, error: OSError) -> EngineError:
    """Return an `EngineError` (`LOAD_FAILED`) that names a file at which the disk failed."""
    return load_error(
        mark("The model file {file} cannot be read: {why}."),
        f"{path}: {error!r}",
        file=known_as(path),
        why=error.strerror or type(error).__name__,
    )


def _check_file(path: Path) -> None:
    try:
        read_header(path)
    except ValueError as error:
        raise load_error(
            mark("The model file {file} is damaged; deleted, it is downloaded again."),
            f"{path}: {error}",
            file=known_as(path),
        ) from error
