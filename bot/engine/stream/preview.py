"""Small pictures of the unfinished result: a linear map from latent channels to colours.

The map is fitted to the VAE at hand by least squares, from a few synthetic pictures and their
latents; each latent pixel stands for 8 x 8 pixels, or for 16 x 16. ComfyUI and AUTOMATIC1111 show
such previews with maps that were fitted once for each published VAE.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bot.engine.stream.decode import PictureCodec

_SIDE: Final = 16
_SCALES: Final = (1, 2, 4, 8)
"""Sides of the synthetic pictures and of the patches in them, in latent pixels."""
_SEED: Final = 1
_SHOWN: Final = 8
"""Previews of one generation, at most."""
_REDUCED: Final = 4
"""A preview's sides are a picture's, divided by it."""
_QUALITY: Final = 80

_FITTED: Final[WeakKeyDictionary[PictureCodec, LatentPreview]] = WeakKeyDictionary()


class LatentPreview:
    """Turns latents into small JPEG pictures.

    `weight` is [channels, 3] and `bias` [3], for 0 to 255; a latent pixel stands for `pixels` x
    `pixels` of the picture.
    """

    def __init__(self, weight: Tensor, bias: Tensor, pixels: int = 8) -> None:
        self._weight = weight
        self._bias = bias
        self._enlarged = pixels // _REDUCED

    @classmethod
    def of(cls, codec: PictureCodec) -> LatentPreview:
        """Return the map of `codec`, which is fitted once."""
        if codec not in _FITTED:
            _FITTED[codec] = cls.fit(
                lambda picture: codec.encode(picture, *picture.size), codec.kind.latents.pixels
            )
        return _FITTED[codec]

    @classmethod
    @torch.no_grad()
    def fit(cls, encode: Callable[[Image.Image], Tensor], pixels: int) -> LatentPreview:
        """Fit the map to a VAE; takes the encoding of four pictures of 16 x 16 latent pixels.

        `encode` returns a picture's latents, [1, channels, height, width]; each stands for
        `pixels` x `pixels`.
        """
        latents, colours = [], []
        for picture in synthetic_pictures(pixels):
            encoded = encode(picture)[0].float().cpu()
            latents.append(encoded.flatten(1).T)
            small = picture.resize((_SIDE, _SIDE), Image.Resampling.BOX)
            colours.append(torch.from_numpy(np.asarray(small, np.float32)).flatten(0, 1))
        x, y = torch.cat(latents), torch.cat(colours)
        x = torch.cat([x, torch.ones(len(x), 1)], 1)
        solution = torch.linalg.lstsq(x, y).solution
        return cls(solution[:-1], solution[-1], pixels)

    def picture(self, latents: Tensor) -> Image.Image:
        """Return the picture of [channels, height, width], at the latents' resolution."""
        device = latents.device
        mapped = latents.float().permute(1, 2, 0) @ self._weight.to(device) + self._bias.to(device)
        pixels = mapped.clamp(0, 255).to("cpu", torch.uint8)
        return Image.fromarray(pixels.numpy())

    def encoded(self, latents: Iterable[Tensor]) -> bytes:
        """Return a JPEG of pictures of [channels, height, width], several side by side."""
        pictures = [self.picture(one) for one in latents]
        columns = math.ceil(math.sqrt(len(pictures)))
        rows = math.ceil(len(pictures) / columns)
        width, height = pictures[0].size
        sheet = Image.new("RGB", (columns * width, rows * height))
        for index, picture in enumerate(pictures):
            sheet.paste(picture, (index % columns * width, index // columns * height))
        size = (sheet.width * self._enlarged, sheet.height * self._enlarged)
        out = io.BytesIO()
        sheet.resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", quality=_QUALITY)
        return out.getvalue()


def is_shown(step: int, total: int) -> bool:
    """Tell whether a preview follows step `step` (1-based) of `total`; never the last one."""
    return step < total and step * _SHOWN // total != (step - 1) * _SHOWN // total


def synthetic_pictures(pixels: int = 8) -> list[Image.Image]:
    """Return pictures of random colours in patches, each with smaller patches beside larger.

    Of 16 x 16 latent pixels, each of which stands for `pixels` x `pixels`.
    """
    generator = np.random.default_rng(_SEED)
    pictures: list[Image.Image] = []
    side = _SIDE * pixels
    for scale in _SCALES:
        count = _SIDE // scale
        patches = generator.integers(0, 256, (count, count, 3), dtype=np.uint8)
        # Some whole rows are grey or dark, which random colours rarely are.
        patches[:: max(2, count // 4)] = patches[:: max(2, count // 4), :, :1]
        patches[1 :: max(2, count // 4)] //= 3
        soft = Image.fromarray(patches).resize((side, side), Image.Resampling.BICUBIC)
        hard = Image.fromarray(patches).resize((side, side), Image.Resampling.NEAREST)
        soft.paste(hard.crop((0, 0, side, side // 2)), (0, 0))
        pictures.append(soft)
    return pictures
