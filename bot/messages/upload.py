"""Uploads: a picture fitted into Discord's limit; the original stays on disk."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import discord
from PIL import Image

from bot.messages.discord_limits import FILE_BYTES, REQUEST_BYTES
from bot.pictures.grid import has_alpha
from bot.pictures.parameters_written import exif_of
from bot.pictures.texts import read_texts

# Room for what a request holds besides its files.
_FILES_LIMIT: Final = REQUEST_BYTES - 2**20
_WEBP_QUALITIES: Final = (95, 90, 80, 65, 50)
_REDUCED_QUALITY: Final = 80
_SMALLEST_SIDE: Final = 256


def upload_limit(count: int, file_limit: int = FILE_BYTES) -> int:
    """Return the bytes that each of `count` files of one message may have."""
    return min(file_limit, _FILES_LIMIT // max(1, count))


@dataclass(frozen=True, slots=True)
class Upload:
    """Bytes to send under an ASCII name, with alt text."""

    name: str
    data: bytes = field(repr=False)
    description: str
    spoiler: bool = False
    """Whether it is covered until someone clicks on it."""

    def file(self) -> discord.File:
        """Return a new file object over the bytes."""
        return discord.File(
            io.BytesIO(self.data), self.name, description=self.description, spoiler=self.spoiler
        )

    @property
    def uri(self) -> str:
        """How an embed or a component of the same message refers to it."""
        return self.file().uri


def _encodings(png: bytes) -> Iterator[tuple[str, bytes]]:
    yield "png", png
    with Image.open(io.BytesIO(png)) as image:
        picture = image.convert("RGBA" if has_alpha(image) else "RGB")
    exif = exif_of(read_texts(png).found)
    for options in ({"lossless": True, "method": 4}, *({"quality": q} for q in _WEBP_QUALITIES)):
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", exif=exif, **options)
        yield "webp", buffer.getvalue()
    while min(picture.size) > _SMALLEST_SIDE:
        picture = picture.reduce(2)
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", exif=exif, quality=_REDUCED_QUALITY)
        yield "webp", buffer.getvalue()


def fit_png(png: bytes, stem: str, description: str, limit: int = FILE_BYTES) -> Upload:
    """Return a picture in at most `limit` bytes, with the parameters that its texts hold.

    Tried in turn: PNG, lossless WebP, lossy WebP, then ever smaller sides; an alpha channel is kept
    in all of them.

    Blocking (run it in a thread). Should even the last encoding be too large, that one is
    returned.
    """
    upload = Upload(f"{stem}.png", b"", description)
    for kind, data in _encodings(png):
        upload = Upload(f"{stem}.{kind}", data, description)
        if len(data) <= limit:
            break
    return upload
