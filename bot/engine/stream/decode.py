"""The VAE by DiffSynth: latents to pictures and back, whole or in tiles as memory allows."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from bot.engine.child.inputs import flattened, has_alpha, read_input
from bot.engine.stream.device import Device
from bot.engine.stream.finite import finite
from bot.engine.stream.moving import move
from bot.engine.stream.vae_kind import QWEN_IMAGE_VAE, VaeKind

log = logging.getLogger(__name__)

_OPAQUE: Final = 3
"""Channels of a picture without alpha."""


def working_bytes(
    width: int, height: int, element: int, *, tiled: bool, kind: VaeKind = QWEN_IMAGE_VAE
) -> int:
    """Return the peak above the VAE's weights, in bytes; `element` is the size of a number."""
    if not tiled:
        return kind.bytes_per_pixel * element * width * height
    side = kind.tile_pixels
    tile = kind.bytes_per_pixel * element * min(width, side) * min(height, side)
    return tile + kind.assembly * element * width * height


def needs_tiles(
    width: int, height: int, element: int, room: int | None, kind: VaeKind = QWEN_IMAGE_VAE
) -> bool:
    """Tell whether a picture is worked on in tiles when `room` bytes are free (None: plenty)."""
    return room is not None and working_bytes(width, height, element, tiled=False, kind=kind) > room


def fitted(
    picture: Path | Image.Image, width: int, height: int, *, alpha: bool = False
) -> Image.Image:
    """Open a picture, cover the size with it and cut off evenly what sticks out.

    An alpha channel is kept with `alpha`. Without, a file's is laid on white.
    """
    if isinstance(picture, Path):
        return read_input(picture, (width, height), alpha=alpha)
    mode = "RGBA" if alpha and has_alpha(picture) else "RGB"
    return ImageOps.fit(picture.convert(mode), (width, height), Image.Resampling.LANCZOS)


@dataclass(frozen=True, slots=True)
class Stage:
    """What one picture took. `expected_bytes` is the formula's answer, for comparison."""

    width: int
    height: int
    tiled: bool
    seconds: float
    expected_bytes: int
    peak_bytes: int
    """The most bytes allocated since the device's `reset_peak`; 0 on a CPU."""


class PictureCodec:
    """The VAE, under a budget. `room` below is how many more bytes may be taken.

    What is transparent is laid on white, unless the alpha channel is asked for.
    """

    def __init__(
        self, vae: Any, device: Device, dtype: torch.dtype, kind: VaeKind = QWEN_IMAGE_VAE
    ) -> None:
        self._vae = vae.to(device=device.torch, dtype=dtype).eval()
        self.device = device
        self.kind = kind
        self._dtype = dtype
        self.last: Stage | None = None
        self.give_way: Callable[[], bool] = lambda: False
        """Called where even tiles have no room: frees some of the card, or says that it cannot."""

    def move(self, device: torch.device) -> None:
        """Have the weights there: in main memory, or on its own device again."""
        move(self._vae, device)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the device's memory that the VAE takes all the time."""
        return sum(parameter.nbytes for parameter in self._vae.parameters())

    def decode(
        self, latents: Tensor, room: int | None = None, *, alpha: bool = False
    ) -> Iterator[Image.Image]:
        """Yield the pictures of `latents`, of the shape that its kind says, one by one.

        With `alpha` those of a VAE of four channels are `RGBA`; all others are `RGB`.
        Raises `NotFinite` where the VAE gives no numbers.
        """
        height, width = (self.kind.latents.pixels * size for size in latents.shape[-2:])
        for one in latents.split(1):
            moved = one.to(self.device.torch, self._dtype)
            values = finite(self._run(self._vae.decode, moved, width, height, room))
            yield _picture(values, alpha=alpha)

    def encode(
        self,
        picture: Path | Image.Image,
        width: int,
        height: int,
        room: int | None = None,
        *,
        alpha: bool = False,
    ) -> Tensor:
        """Return the latents of a picture fitted to that size, one picture's.

        With `alpha` a VAE of four channels sees the picture's own transparency.
        """
        image = fitted(picture, width, height, alpha=alpha and self.kind.channels > _OPAQUE)
        if self.kind.channels > len(image.getbands()):
            image = image.convert("RGBA")
        pixels = torch.from_numpy(np.array(image, dtype=np.float32))
        # Rounded once: in bfloat16 from the start, 255 levels are some 190.
        values = (pixels.to(self.device.torch) * (2 / 255) - 1).to(self._dtype)
        return self._run(self._vae.encode, values.permute(2, 0, 1)[None], width, height, room)

    @torch.no_grad()
    def _run(
        self,
        work: Callable[..., Tensor],
        x: Tensor,
        width: int,
        height: int,
        room: int | None,
    ) -> Tensor:
        element = self._dtype.itemsize
        tiled = needs_tiles(width, height, element, room, self.kind)
        started = time.perf_counter()
        try:
            out = self._in_tiles(work, x) if tiled else work(x, tiled=False)
        except torch.OutOfMemoryError:
            if tiled:
                raise
            out = None
        if out is None:  # outside of `except`, whose traceback would keep the tensors alive
            log.warning("No memory for %dx%d at once, going on in tiles.", width, height)
            self.device.release_cache()
            tiled = True
            out = self._in_tiles(work, x)
        self.device.synchronise()
        seconds = time.perf_counter() - started
        expected = working_bytes(width, height, element, tiled=tiled, kind=self.kind)
        peak, _ = self.device.peak()
        self.last = Stage(width, height, tiled, seconds, expected, peak)
        return out

    def _in_tiles(self, work: Callable[..., Tensor], x: Tensor) -> Tensor:
        kind = self.kind
        while True:
            try:
                return work(x, tiled=True, tile_size=kind.tile, tile_stride=kind.stride)
            except torch.OutOfMemoryError:
                if not self.give_way():
                    raise


def _picture(values: Tensor, *, alpha: bool) -> Image.Image:
    """Return [1, channels, height, width] from -1 to 1 as a picture, each rounded to the nearest.

    Cut off in bfloat16 instead, as DiffSynth does it, a picture loses 0.4 of its 255 levels each
    time that it is drawn from itself.
    """
    pixels = ((values[0].permute(1, 2, 0).float() + 1) * (255 / 2)).round().clip(0, 255)
    image = Image.fromarray(pixels.to("cpu", torch.uint8).numpy())
    return image if alpha else flattened(image)


def measure(codec: PictureCodec, sizes: list[tuple[int, int]]) -> list[Stage]:
    """Decode and encode a picture of each size, whole and in tiles; return what each took.

    Run each size once before: kernels are chosen and loaded at first use.
    """
    stages: list[Stage | None] = []
    for width, height in sizes:
        latents = torch.zeros(codec.kind.latents.of(1, width, height))
        for room in (None, 0):
            codec.device.reset_peak()
            (picture,) = codec.decode(latents, room)
            stages.append(codec.last)
            codec.device.reset_peak()
            codec.encode(picture, width, height, room)
            stages.append(codec.last)
    return [stage for stage in stages if stage is not None]
