"""Kinds of VAEs: what the codec has to know of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bot.engine.stream import double_stream, single_stream
from bot.engine.stream.layout import LatentShape


@dataclass(frozen=True, slots=True)
class VaeKind:
    """A VAE of DiffSynth's, by its latents and by what a picture takes.

    `bytes_per_pixel` is the peak above the weights for a whole picture, for each byte of an
    element; `assembly` are the numbers that a pixel of a picture in tiles takes beside the tile.
    `tile` and `stride` are what the VAE's own tiling is given, `tile_pixels` a tile's side.
    `channels` has 4 where pictures have transparency.
    """

    latents: LatentShape
    bytes_per_pixel: int
    assembly: int
    tile: int
    stride: int
    tile_pixels: int
    channels: int = 3


QWEN_IMAGE_VAE: Final = VaeKind(
    double_stream.LATENTS,
    # Measured in bf16 above the weights: 1.29 GiB at 1344x768, 2.21 at 1328x1328, 5.25 at
    # 2048x2048, so 1.25 to 1.26 GiB a million pixels for decoding, and a quarter less for encoding.
    bytes_per_pixel=682,
    # The whole picture in pixels, its weights, and a quotient of both: 3 + 1 + 3 channels.
    assembly=7,
    # Latent pixels: 512x512 pixels and a quarter of it as overlap.
    tile=64,
    stride=48,
    tile_pixels=512,
)
QWEN_IMAGE_21_VAE: Final = VaeKind(
    single_stream.LATENTS,
    # Measured in bf16 above the weights (0.617 GiB): decoding 1586 to 1589, so 3.06 GiB at 1344x768
    # and 12.39 at 2048x2048; encoding, which this is for too, 677 to 680. In tiles decoding takes
    # 0.79 GiB at 1344x768 and 0.84 at 2048x2048, encoding 0.34 to 0.37.
    bytes_per_pixel=1600,
    # Four channels: tiles with their overlap, (512 / 384) ** 2, then rows of them, the whole, and
    # the whole within its bounds.
    assembly=20,
    tile=512,
    stride=384,
    tile_pixels=512,
    channels=4,
)
