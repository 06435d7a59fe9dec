"""`python -m bot download`: get the model's files now, with a progress bar."""

from __future__ import annotations

import sys
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bot.errors import BotError, EngineError
from bot.settings import Settings

_EVERY: Final = 0.05


class _Shown:
    """Shows stages on a terminal as bars, elsewhere as a line for every 5 %."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}

    def __call__(self, stage: str, fraction: float | None = None) -> None:
        """Take a step of progress."""
        done = fraction or 0.0
        if self._progress is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._progress.add_task(stage, total=1.0)
            self._progress.update(self._tasks[stage], completed=done)
        elif stage not in self._said or done >= self._said[stage] + _EVERY:
            self._said[stage] = done
            sys.stdout.write(f"{stage}: {done:.0%}\n")
            sys.stdout.flush()


def download_model(settings: Settings) -> str:
    """Make the model's folder complete; return what to tell.

    Raises `BotError` with one sentence.
    """
    if settings.model.family == "tiny":
        return "The tiny model is part of the bot: there is nothing to download."
    from bot.engine.weights import ensure  # noqa: PLC0415 - safetensors takes a moment

    root = settings.image_model_path
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
    )
    console = Console()
    try:
        if console.is_terminal:
            with Progress(*columns, console=console) as progress:
                files = ensure(root, _Shown(progress), source=settings.model_source)
        else:
            files = ensure(root, _Shown(None), source=settings.model_source)
    except EngineError as error:
        raise BotError(error.sentence or error.detail) from error
    paths = (*files.transformer, *files.text_encoder, *files.vae)
    size = sum(path.stat().st_size for path in paths)
    return f"Complete: {len(paths)} files of weights, {size / 1e9:.1f} GB, in {root}."
