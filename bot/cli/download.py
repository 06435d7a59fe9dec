"""`python -m bot download`: get the models' files now, with a progress bar."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Generator, Sequence
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

from bot.catalogue.lightning import BEST, SERIES
from bot.catalogue.models import ModelSpec
from bot.config.loras import lora_folder
from bot.config.settings import Settings
from bot.doctor.model import cache_bytes, cache_to_come, damage, stored_precision
from bot.doctor.model_disk import by_disk
from bot.errors import BotError, EngineError

_EVERY: Final = 0.05


class _Shown:
    """Shows stages on a terminal as bars, elsewhere as a line for every 5 %."""

    def __init__(self, progress: Progress | None, size: int | None, name: str = "") -> None:
        self._progress = progress
        self._before = f"{name}: " if name else ""
        self._size = size
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}

    def __call__(self, stage: str, fraction: float | None = None) -> None:
        """Take a step of progress."""
        stage = f"{self._before}{stage}"
        done = fraction or 0.0
        if self._progress is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._progress.add_task(stage, total=self._size or 1.0)
            self._progress.update(self._tasks[stage], completed=done * (self._size or 1.0))
        elif stage not in self._said or done >= self._said[stage] + _EVERY:
            self._said[stage] = done
            of = "" if self._size is None else f" of {self._size / 1e9:.1f} GB"
            _say(f"{stage}: {done:.0%}{of}")


def download_models(settings: Settings, models: Sequence[ModelSpec], *, drop: bool) -> bool:
    """Make the folders of `models` complete, one after the other, and say how it went.

    One that fails does not hinder the others: False is returned then, in the end. Raises `BotError`
    with one sentence where it is the only one.
    """
    wanted = [spec for spec in models if not spec.built_in]
    if not wanted:
        _say("The tiny model is part of the bot: there is nothing to download.")
        return True
    if len(wanted) == 1:
        _say(download_model(settings, wanted[0], drop=drop))
        return True
    for place, to_come in by_disk(settings, wanted):
        size, free = sum(size for _spec, size in to_come), shutil.disk_usage(place).free
        if free < size and not drop:
            _say(
                f"Together they need {size / 1e9:.0f} GB more at {place.absolute()}, and "
                f"{free / 1e9:.0f} GB are free: not all of them will fit (less without --keep)."
            )
    failed: list[str] = []
    for number, spec in enumerate(wanted, 1):
        _say(f"Model {number} of {len(wanted)}:")
        try:
            _say(download_model(settings, spec, drop=drop, named=True))
        except BotError as error:
            failed.append(spec.name)
            sys.stderr.write(f"{spec.name}: {error}\n")
            sys.stderr.flush()
    if failed:
        _say(f"Not complete: {', '.join(failed)}. The same command goes on where they ended.")
    return not failed


def download_model(
    settings: Settings, spec: ModelSpec, *, drop: bool = False, named: bool = False
) -> str:
    """Make a model's folder complete; return what to tell.

    With `drop`, each file is packed into the weights cache as it arrives, and deleted; a model that
    has no cache with these settings keeps its files, and that is said. With `named`, the progress
    says which model it is of. Raises `BotError` with one sentence.
    """
    from bot.engine.files.find import (  # noqa: PLC0415 - the hub's client takes a moment
        bytes_to_fetch,
        elsewhere,
        ensure,
    )

    root, published = settings.image_model_path, spec.published
    name, precision = spec.name, stored_precision(settings, spec)
    drop = drop and precision is not None
    size = None
    if published is not None:
        size = bytes_to_fetch(root, name, precision)
        _say(f"{name}: {size / 1e9:.1f} GB in all, to {root.absolute()}")
        if others := elsewhere(root, name, precision):
            _say(f"Its {' and its '.join(others)} are those of {next(iter(others.values()))}.")
        _say(f"Its licence: {published.licence}")
        if drop:
            stays = published.cache_bytes / 1e9
            _say(
                f"Each file is converted as it arrives and then deleted: {stays:.0f} GB stay, "
                "IMAGE_PRECISION=bf16, IMAGE_OFFLOAD=stock and another kind of 8 bits would want "
                "the rest again (--keep keeps it)."
            )
        elif precision is None:
            _say(f"{name} has no weights cache with these settings: its files are kept.")
    # Where bytes arrive and are converted in turns, a rate would say nothing.
    with _progress(None if drop else size, name if named else "") as shown:
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
    count = "1 file" if len(files.weights) == 1 else f"{len(files.weights)} files"
    told = f"{count} of weights, {size / 1e9:.1f} GB, in {files.folder}"
    if cached := cache_bytes(settings, spec):
        told += f", and {cached / 1e9:.1f} GB in the weights cache beside them"
    return f"Complete: {told}.{_cache_sentence(settings, spec)}"


def _cache_sentence(settings: Settings, spec: ModelSpec) -> str:
    """Return what to tell where the weights cache that the first picture makes has no room."""
    wanted, root = cache_to_come(settings, spec), settings.image_model_path
    free = shutil.disk_usage(root).free
    if free >= wanted:
        return ""
    return (
        f" The weights cache needs {wanted / 1e9:.0f} GB more there, and {free / 1e9:.0f} GB are "
        "free: until there is room, every start converts the model anew. python -m bot download "
        "without --keep makes it now, and deletes the files that it is made of."
    )


def download_lightning(settings: Settings, spec: ModelSpec, steps: int) -> str:
    """Put the LoRA for a model's quality `fast` into IMAGE_LORA_PATH; return what to tell.

    `steps` may be `BEST`. Raises `BotError` with one sentence.
    """
    name = spec.name
    series = SERIES.get(name)
    if series is None:
        raise BotError(f"There is no Lightning file for {name}, only for {', '.join(SERIES)}.")
    if steps not in (BEST, *series.steps):
        there = " or ".join(map(str, series.steps))
        raise BotError(f"The Lightning file for {name} has {there} steps, not {steps}.")
    from bot.engine.files.download import download  # noqa: PLC0415 - safetensors takes a moment

    folder, file = settings.image_lora_path, series.published(steps or series.steps[0])
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
        raise BotError(f"{series.repository} does not publish {file}.")
    told = f"Complete: {file}, {path.stat().st_size / 1e9:.1f} GB, in {folder}."
    if settings.image_quality_fast:
        return f"{told} IMAGE_QUALITY_FAST is set and counts before it."
    found = lora_folder(settings, spec).look()
    used = found.lightning
    if path.stem in found.misnamed:
        return f"{told} Its layers are another model's, and the quality fast draws without it."
    if used is None:
        return f"{told} It is of use with IMAGE_OFFLOAD=stream only."
    if f"{used.file}.safetensors" != file:
        return f"{told} {used.file}.safetensors is there too and counts before it."
    return f"{told} The quality fast draws with it in {used.steps} steps."


@contextmanager
def _progress(size: int | None = None, name: str = "") -> Generator[_Shown]:
    """Show the stages that are told to what it yields; turn `EngineError` into `BotError`.

    `size` is what a stage has in all, in bytes, where that is known; `name` stands before it.
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
                yield _Shown(progress, size, name)
        else:
            yield _Shown(None, size, name)
    except EngineError as error:
        if isinstance(error.__cause__, BrokenPipeError):  # What went wrong is the showing.
            raise error.__cause__ from None
        raise BotError(error.sentence or error.detail) from error


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
