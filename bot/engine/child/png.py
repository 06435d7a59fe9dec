"""PNG files of pictures, which carry their parameters as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bot.errors import EngineError, EngineErrorKind
from bot.errors.disk import refusal


def with_precision(texts: Mapping[str, str], precision: str | None) -> Mapping[str, str]:
    """Return a picture's texts with how it was computed, which only the engine knows."""
    if precision is None or "parameters" not in texts:
        return texts
    return {**texts, "parameters": f"{texts['parameters']}, Precision: {precision}"}


def save_png(image: Image.Image, path: Path, texts: Mapping[str, str]) -> None:
    """Write `image` with `texts` as text chunks (iTXt where ASCII is not enough).

    The file appears under its name only when it is complete. Raises `EngineError` (`DISK_REFUSED`)
    if the disk is full or cannot be written to, and `OSError` otherwise.
    """
    info = PngInfo()
    for name, text in texts.items():
        # Latin-1 in tEXt is read as UTF-8 by many, since others write UTF-8 there.
        info.add_text(name, text) if text.isascii() else info.add_itxt(name, text)
    part = path.with_name(path.name + ".part")
    try:
        image.save(part, format="PNG", pnginfo=info)
        part.replace(path)
    except OSError as error:
        if (reason := refusal(error)) is None:
            raise
        detail = f"{type(error).__name__}: {error.strerror}"
        raise EngineError(EngineErrorKind.DISK_REFUSED, detail, sentence=reason) from error
