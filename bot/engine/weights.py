"""The files of the full-size model: which there must be, what is missing, getting them.

The folder has the published layout of `Qwen/Qwen-Image`: transformer/, text_encoder/, vae/ and
tokenizer/. It is IMAGE_MODEL_PATH itself, or `Qwen/Qwen-Image` below it, where DiffSynth's own
downloader puts it.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.engine.backend import LoadProgress
from bot.errors import EngineError, EngineErrorKind, filled
from bot.words import mark

_TOKENIZER: Final = ("vocab.json", "merges.txt", "tokenizer_config.json")
_SHARD: Final = re.compile(r"(.+)-\d{5}-of-(\d{5})\.safetensors")
# The published files, in bytes, and some room for the last one's temporary copy.
_DOWNLOAD_BYTES: Final = 58_000_000_000
_POLL_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The complete set of files of one model."""

    transformer: tuple[Path, ...]
    text_encoder: tuple[Path, ...]
    vae: tuple[Path, ...]
    tokenizer: Path


def _shards(folder: Path, stem: str, *, sharded: bool) -> tuple[list[Path], list[Path]]:
    """Return what is there and what is missing of one network's files."""
    present = sorted(folder.glob(f"{stem}*.safetensors"))
    if not present:
        name = f"{stem}-00001-of-*.safetensors" if sharded else f"{stem}.safetensors"
        return [], [folder / name]
    missing: list[Path] = []
    for path in present:
        if match := _SHARD.fullmatch(path.name):
            head, count = match[1], match[2]
            names = (f"{head}-{i:05}-of-{count}.safetensors" for i in range(1, int(count) + 1))
            missing = [folder / name for name in names if not (folder / name).is_file()]
    return present, missing


def find(root: Path) -> tuple[ModelFiles | None, list[Path]]:
    """Look for the model's files under `root`: the set, or what is missing of it."""
    nested = root / "Qwen" / "Qwen-Image"
    folder = nested if nested.is_dir() else root
    transformer, lacks = _shards(folder / "transformer", "diffusion_pytorch_model", sharded=True)
    text_encoder, lacks_text = _shards(folder / "text_encoder", "model", sharded=True)
    vae, lacks_vae = _shards(folder / "vae", "diffusion_pytorch_model", sharded=False)
    tokenizer = folder / "tokenizer"
    lacks_words = [tokenizer / name for name in _TOKENIZER if not (tokenizer / name).is_file()]
    missing = [*lacks, *lacks_text, *lacks_vae, *lacks_words]
    if missing:
        return None, missing
    return ModelFiles(tuple(transformer), tuple(text_encoder), tuple(vae), tokenizer), []


def ensure(
    root: Path, progress: LoadProgress, *, repository: str = "Qwen/Qwen-Image"
) -> ModelFiles:
    """Return the model's files, downloading what is missing.

    Raises `EngineError` (`LOAD_FAILED`) that names the file which is missing or damaged, or says
    how much disk space is wanted.
    """
    files, missing = find(root)
    if files is None:
        _check_disk(root)
        _download(root, repository, missing[0], progress)
        files, missing = find(root)
    if files is None:
        raise _load_error(
            mark("The model file {file} is missing."), f"{missing[0]}", file=known_as(missing[0])
        )
    for path in (*files.transformer, *files.text_encoder, *files.vae):
        _check_file(path)
    return files


def known_as(path: Path) -> str:
    """Return a model file's name as users may see it: its network's folder and its own name."""
    return "/".join(path.parts[-2:])


def _load_error(sentence: str, detail: str | None = None, **values: str) -> EngineError:
    return EngineError(
        EngineErrorKind.LOAD_FAILED,
        detail or filled(sentence, values),
        sentence=sentence,
        values=values,
    )


def _check_file(path: Path) -> None:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - child only

    try:
        with safe_open(path, framework="pt", device="cpu") as opened:
            opened.keys()
    except (SafetensorError, OSError) as error:
        raise _load_error(
            mark("The model file {file} is damaged; deleted, it is downloaded again."),
            f"{path}: {error}",
            file=known_as(path),
        ) from error


def _folder_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def _check_disk(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    wanted = _DOWNLOAD_BYTES - _folder_bytes(root)
    free = shutil.disk_usage(root).free
    if free < wanted:
        raise _load_error(
            mark(
                "The model needs {wanted} GB more on the disk of IMAGE_MODEL_PATH, where {free} GB "
                "are free."
            ),
            f"disk of {root}",
            wanted=f"{wanted / 1e9:.0f}",
            free=f"{free / 1e9:.0f}",
        )


def _download(root: Path, repository: str, first: Path, progress: LoadProgress) -> None:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - child only

    with _watched(lambda: _folder_bytes(root), progress):
        try:
            snapshot_download(
                repository,
                local_dir=root,
                allow_patterns=["transformer/*", "text_encoder/*", "vae/*", "tokenizer/*"],
            )
        except Exception as error:  # the client lets its HTTP library's errors through
            raise _load_error(
                mark("The model file {file} is missing, and it could not be downloaded."),
                f"download of {repository} to {root}: {type(error).__name__}",
                file=known_as(first),
            ) from error


@contextmanager
def _watched(size: Callable[[], int], progress: LoadProgress) -> Generator[None]:
    """Report the growth of what is being downloaded; only growth counts as progress."""
    done = threading.Event()

    def watch() -> None:
        last = -1
        while not done.wait(_POLL_S):
            if (now := size()) != last:
                last = now
                progress(mark("downloading the model"), min(1.0, now / _DOWNLOAD_BYTES))

    thread = threading.Thread(target=watch, name="download-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
