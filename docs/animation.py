"""A moving picture of a page: screenshots one after the other, as a GIF of a bounded size."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

from PIL import Image

from tests.browser.chromium import Page

# In ms: browsers show no frame for less, longer waits bore, pictures are looked at.
_LEAST_MS: Final = 60
_MOST_MS: Final = 500
_HELD_MS: Final = 2000
_END_MS: Final = 4000
_COLOURS: Final = 192
MOST_BYTES: Final = 2_000_000


@dataclass
class Recording:
    """Pictures of a page that differ from the one before, each with its time in seconds."""

    frames: list[tuple[float, Image.Image]] = field(default_factory=list)
    held: set[int] = field(default_factory=set[int])

    def hold(self) -> None:
        """Have the newest frame seen for as long as it takes to look at it."""
        self.held.add(len(self.frames) - 1)

    def take(self, png: bytes) -> None:
        """Add a screenshot, unless nothing has changed."""
        with Image.open(io.BytesIO(png)) as image:
            frame = image.convert("RGB")
        if not self.frames or frame.tobytes() != self.frames[-1][1].tobytes():
            self.frames.append((time.monotonic(), frame))


@asynccontextmanager
async def recorded(page: Page) -> AsyncIterator[Recording]:
    """Take one screenshot after the other while the context lasts, and one at its end."""
    recording, ended = Recording(), asyncio.Event()

    async def film() -> None:
        while not ended.is_set():
            recording.take(await page.picture())

    filming = asyncio.create_task(film())
    try:
        yield recording
    finally:
        ended.set()
        await filming
    recording.take(await page.picture())


def durations(times: Sequence[float], held: Collection[int]) -> list[int]:
    """Return how long each frame is seen, in milliseconds: as it was, but long waits cut short."""
    between = [1000 * (after - before) for before, after in pairwise(times)]
    shown = [round(min(_MOST_MS, max(_LEAST_MS, one))) for one in between]
    return [_HELD_MS if at in held else one for at, one in enumerate(shown)] + [_END_MS]


def write_gif(recording: Recording, path: Path) -> int:
    """Write the recording as an endless GIF of one palette; return its bytes.

    Raises `ValueError` where it is larger than `MOST_BYTES`.
    """
    times, frames = zip(*recording.frames, strict=True)
    width, height = frames[-1].size
    # The colours of beginning, middle and end; no dithering, which moves from frame to frame.
    chosen = [frames[0], frames[len(frames) // 2], frames[-1]]
    sheet = Image.new("RGB", (width, height * len(chosen)))
    for index, frame in enumerate(chosen):
        sheet.paste(frame, (0, index * height))
    palette = sheet.quantize(_COLOURS, Image.Quantize.MEDIANCUT)
    first, *others = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    data = io.BytesIO()
    first.save(
        data,
        "GIF",
        save_all=True,
        append_images=others,
        duration=durations(times, recording.held),
        loop=0,
    )
    if len(data.getbuffer()) > MOST_BYTES:
        raise ValueError(f"{path.name} would have {len(data.getbuffer())} bytes")
    path.write_bytes(data.getvalue())
    return len(data.getbuffer())
