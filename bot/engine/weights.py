"""The files of the full-size model: which there must be, what is missing, getting them.

The folder has the published layout of `Qwen/Qwen-Image`: transformer/, text_encoder/, vae/ and
tokenizer/. It is IMAGE_MODEL_PATH itself, or `Qwen/Qwen-Image` below it, where DiffSynth's own
downloader puts it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.engine.backend import LoadProgress
from bot.engine.download import download, load_error
from bot.words import mark

_TOKENIZER: Final = ("vocab.json", "merges.txt", "tokenizer_config.json")
DOWNLOAD_BYTES: Final = 57_700_000_000
"""What all of the published files take."""
_SHARD: Final = re.compile(r"(.+)-\d{5}-of-(\d{5})\.safetensors")


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


def _folder(root: Path) -> Path:
    nested = root / "Qwen" / "Qwen-Image"
    return nested if nested.is_dir() else root


def find(root: Path) -> tuple[ModelFiles | None, list[Path]]:
    """Look for the model's files under `root`: the set, or what is missing of it."""
    folder = _folder(root)
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
    root: Path,
    progress: LoadProgress,
    *,
    repository: str = "Qwen/Qwen-Image",
    source: str = "huggingface",
) -> ModelFiles:
    """Return the model's files, downloading what is missing.

    Raises `EngineError` (`LOAD_FAILED`) that names the file which is missing or damaged, or says
    why it could not be downloaded.
    """
    files, missing = find(root)
    if files is None:
        download(_folder(root), repository, source, progress, lacking=known_as(missing[0]))
        files, missing = find(root)
    if files is None:
        raise load_error(
            mark("The model file {file} is missing."), f"{missing[0]}", file=known_as(missing[0])
        )
    for path in (*files.transformer, *files.text_encoder, *files.vae):
        _check_file(path)
    return files


def known_as(path: Path) -> str:
    """Return a model file's name as users may see it: its network's folder and its own name."""
    return "/".join(path.parts[-2:])


def _check_file(path: Path) -> None:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - child only

    try:
        with safe_open(path, framework="pt", device="cpu") as opened:
            opened.keys()
    except (SafetensorError, OSError) as error:
        raise load_error(
            mark("The model file {file} is damaged; deleted, it is downloaded again."),
            f"{path}: {error}",
            file=known_as(path),
        ) from error
