"""`python -m bot download`: get the model's files now, with a progress bar."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from bot.catalogue.lightning import SERIES
from bot.config.loras import lora_folder
from bot.config.settings import Settings
from bot.doctor.model import cache_bytes, cache_to_come, damage, stored_precision
from bot.errors import BotError, EngineError

_EVERY: Final = 0.05


class _Shown:
    """Shows stages on a terminal as bars, elsewhere as a line for every 5 %."""

    def __init__(self, progress: Progress | None, size: int | None) -> None:
        self._progress = progress
        self._size = size
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}

    def __call__(self, stage: str, fraction: float | None = None) -> None:
        """Take a step of progress."""
        done = fraction or 0.0
        if self._progress is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._progress.add_task(stage, total=self._size or 1.0)
            self._progress.update(self._tasks[stage], completed=done * (self._size or 1.0))
        elif stage not in self._said or done >= self._said[stage] + _EVERY:
            self._said[stage] = done
            of = "" if self._size is None else f" of {self._size / 1e9:.1f} GB"
            _say(f"{stage}: {done:.0%}{of}")


def download_model(settings: Settings, *, drop: bool = False) -> str:
    """Make the model's folder complete; return what to tell.

    With `drop`, each file is packed into the weights cache as it arrives, and deleted.
    Raises `BotError` with one sentence.
    """
    if settings.model.built_in:
        return "The tiny model is part of the bot: there is nothing to download."
    from bot.engine.files.find import ensure  # noqa: PLC0415 - the hub's client takes a moment

    root, published = settings.image_model_path, settings.model.published
    name, precision = settings.image_model_name, stored_precision(settings)
    if drop and precision is None:
        raise BotError(
            f"Only what the weights cache holds can be dropped, and {name} has none with these "
            "settings (IMAGE_OFFLOAD, IMAGE_PRECISION): python -m bot download, without --drop."
        )
    size = None
    if published is not None:
        size = published.download_bytes
        _say(f"{name}: {size / 1e9:.1f} GB in all, to {root.absolute()}")
        _say(f"Its licence: {published.licence}")
    # Where bytes arrive and are converted in turns, a rate would say nothing.
    with _progress(None if drop else size) as shown:
        if drop and precision is not None:
            from bot.engine.stream.drop import download_and_drop  # noqa: PLC0415 - imports torch

            files = download_and_drop(
                root, shown, repository=name, source=settings.model_source, precision=precision
            )
        else:
            files = ensure(
                root, shown, repository=name, source=settings.model_source, precision=precision
            )
    size = sum(path.stat().st_size for path in files.weights)
    told = f"{len(files.weights)} files of weights, {size / 1e9:.1f} GB, in {files.folder}"
    if cached := cache_bytes(settings):
        told += f", and {cached / 1e9:.1f} GB in the weights cache beside them"
    return f"Complete: {told}.{_cache_sentence(settings)}"


def _cache_sentence(settings: Settings) -> str:
    """Return what to tell where the weights cache that the first picture makes has no room."""
    wanted, root = cache_to_come(settings), settings.image_model_path
    free = shutil.disk_usage(root).free
    if free >= wanted:
        return ""
    return (
        f" The weights cache needs {wanted / 1e9:.0f} GB more there, and {free / 1e9:.0f} GB are "
        "free: until there is room, every start converts the model anew. python -m bot download "
        "--drop makes it now, and deletes the files that it is made of."
    )


def download_lightning(settings: Settings, steps: int) -> str:
    """Put the LoRA for the quality `fast` into IMAGE_LORA_PATH; return what to tell.

    Raises `BotError` with one sentence.
    """
    name = settings.image_model_name
    series = SERIES.get(name)
    if series is None:
        raise BotError(f"There is no Lightning file for {name}, only for {', '.join(SERIES)}.")
    from bot.engine.files.download import download  # noqa: PLC0415 - safetensors takes a moment

    folder, file = settings.image_lora_path, series.published(steps)
    path = folder / file
    if not path.is_file() or damage(path):
        with suppress(OSError):  # The download itself says what is in the way.
            path.unlink()
        with _progress() as shown:
            download(
                folder,
                series.repository,
                settings.model_source,
                shown,
                lacking=file,
                patterns=(file,),
                setting="IMAGE_LORA_PATH",
            )
    if not path.is_file():
        raise BotError(f"{series.repository} does not publish {file} any more.")
    told = f"Complete: {file}, {path.stat().st_size / 1e9:.1f} GB, in {folder}."
    if settings.image_quality_fast:
        return f"{told} IMAGE_QUALITY_FAST is set and counts before it."
    used = lora_folder(settings).look().lightning
    if used is None:
        return f"{told} It is of use with IMAGE_OFFLOAD=stream only."
    if f"{used.file}.safetensors" != file:
        return f"{told} {used.file}.safetensors is there too and counts before it."
    return f"{told} The quality fast draws with it in {used.steps} steps."


@contextmanager
def _progress(size: int | None = None) -> Generator[_Shown]:
    """Show the stages that are told to what it yields; turn `EngineError` into `BotError`.

    `size` is what a stage has in all, in bytes, where that is known.
    """
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    columns += [TextColumn("{task.percentage:.0f} %")]
    if size is not None:
        columns += [DownloadColumn(), TransferSpeedColumn()]
    columns += [TimeRemainingColumn()]
    console = Console()
    try:
        if console.is_terminal:
            with Progress(*columns, console=console) as progress:
                yield _Shown(progress, size)
        else:
            yield _Shown(None, size)
    except EngineError as error:
        if isinstance(error.__cause__, BrokenPipeError):  # What went wrong is the showing.
            raise error.__cause__ from None
        raise BotError(error.sentence or error.detail) from error


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
