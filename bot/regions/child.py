"""The process that looks at pictures for a region: ``python -m bot.regions.child CONFINED PARENT``.

It answers one question and ends. The pictures may be anybody's files, so they are unpacked here and
not in the bot's own process: all that a crafted one can end is this. CONFINED is 1 or 0; with 1 it
can read no file but Python's own, and reach nothing.

On its input stands a line of JSON (`lengths` of the two files, `name` of a region, `whole`, or
null), then the files: a picture, and a copy of it where the region has no name. On its output
stands a line of JSON (`found`, `marks`, `share`, `lengths`), then the mask as a PNG and the preview
as a JPEG; where nothing was found, it says of what kind the error was with a file that cannot be
unpacked (`broken`), or with the search itself (`failed`).
"""

from __future__ import annotations

import io
import json
import os
import sys
import warnings
from typing import Any, Final

from bot.engine.pipes import take_pipes

WHOLE: Final = "whole"
"""The name of all of a picture, whose preview is a small copy of it."""
_PREVIEW: Final = 512


class _BrokenError(Exception):
    """A file that is no picture, or cannot be unpacked."""


def _opened(data: bytes) -> Any:
    """Return a picture upright; raise `_BrokenError` for what cannot be unpacked."""
    from PIL import ImageOps  # noqa: PLC0415

    try:
        picture = _unpacked(data)
    except Exception as error:
        # Decoders raise whatever they like on a crafted file.
        raise _BrokenError(type(error).__name__) from error
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # noqa: BLE001 - as much for a crafted block; the pixels are whole
        return picture


def _unpacked(data: bytes) -> Any:
    from PIL import Image  # noqa: PLC0415

    from bot.pictures.headers import PIXELS_LIMIT  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "GIF")) as image:
            if image.width * image.height > PIXELS_LIMIT:
                raise ValueError("too many pixels")
            return image.convert("RGBA" if "A" in image.getbands() else "RGB")


def _preview(picture: Any, mask: Any) -> bytes:
    """Return a small JPEG of a picture in which all but the region is darkened."""
    from PIL import Image, ImageChops, ImageEnhance  # noqa: PLC0415

    from bot.regions.shapes import dilated  # noqa: PLC0415

    small = picture.convert("RGB")
    small.thumbnail((_PREVIEW, _PREVIEW))
    region = mask.resize(small.size, Image.Resampling.NEAREST)
    shown = Image.composite(small, ImageEnhance.Brightness(small).enhance(0.35), region)
    shown.paste((255, 255, 255), mask=ImageChops.subtract(dilated(region, 2), region))
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def answer(header: dict[str, Any], first: bytes, second: bytes) -> bytes:
    """Return what is written for a question: see the module."""
    from PIL import Image  # noqa: PLC0415

    from bot.regions.finder import find_region  # noqa: PLC0415
    from bot.regions.named import named_region  # noqa: PLC0415
    from bot.regions.shapes import area  # noqa: PLC0415

    picture = _opened(first)
    name, marks = header.get("name"), 0
    if name is None:
        found = find_region(picture, _opened(second))
        mask, marks = (None, 0) if found is None else (found.mask, found.marks)
    elif name == WHOLE:
        mask = Image.new("L", picture.size, 255)
    else:
        mask = named_region(picture, str(name))
    if mask is None:
        return json.dumps({"found": False}).encode() + b"\n"
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    files = buffer.getvalue(), _preview(picture, mask)
    said = {
        "found": True,
        "marks": marks,
        "share": area(mask) / (mask.width * mask.height),
        "lengths": [len(file) for file in files],
    }
    return json.dumps(said).encode() + b"\n" + b"".join(files)


def main() -> None:
    """Answer one question."""
    asked, answered = take_pipes()
    # Only now: whatever these imports print goes to the log.
    from bot.engine.confinement.confine import confine  # noqa: PLC0415
    from bot.engine.confinement.policy import access_policy  # noqa: PLC0415
    from bot.engine.lifeline import die_with_parent, leave_signals_to_parent  # noqa: PLC0415

    leave_signals_to_parent()
    confined, parent = sys.argv[1:]
    die_with_parent(int(parent))
    if confined == "1":
        confine(access_policy(None))
    with os.fdopen(asked, "rb") as source, os.fdopen(answered, "wb") as target:
        header = json.loads(source.readline())
        first, second = (source.read(length) for length in header["lengths"])
        try:
            said = answer(header, first, second)
        except _BrokenError as error:
            said = json.dumps({"found": False, "broken": str(error)}).encode() + b"\n"
        except Exception as error:  # noqa: BLE001 - whatever a strange picture brings about
            said = json.dumps({"found": False, "failed": type(error).__name__}).encode() + b"\n"
        target.write(said)


if __name__ == "__main__":
    main()
