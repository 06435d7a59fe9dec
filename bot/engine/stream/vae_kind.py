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
    # Not measured yet but derived, from the largest activation: the decoder's last block begins at
    # the picture's size with 2 x 144 = 288 channels and ends with 144. While its first convolution
    # runs there are its input twice (the block keeps a copy), the shortcut's result, the normed
    # input and the output, 3 x 288 + 2 x 144; and cuDNN's copies of that convolution's input and
    # output with channels last, 288 + 144: 1584 numbers. A tenth more for what the allocator loses.
    bytes_per_pixel=1750,
    # Four channels: tiles with their overlap, (512 / 384) ** 2, then rows of them, the whole, and
    # the whole within its bounds.
    assembly=20,
    tile=512,
    stride=384,
    tile_pixels=512,
    channels=4,
)
