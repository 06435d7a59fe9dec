"""A part of a picture only, in latents: its mask, and the way back to the source outside of it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional


def latent_mask(mask: Image.Image, pixels: int, blur: int = 0) -> Tensor:
    """Return a mask (`L`, white is redrawn) as [1, 1, height / pixels, width / pixels], 0 to 1.

    Each number is the mean over the `pixels` x `pixels` that a latent pixel stands for. `blur` is
    the radius, in latent pixels, of a Gaussian whose standard deviation is half of it; 0: none.
    """
    values = torch.from_numpy(np.asarray(mask, np.float32) / 255)
    means = functional.avg_pool2d(values[None, None], pixels)
    # Reflected at the border, a picture has to be larger than the radius.
    radius = min(blur, *(side - 1 for side in means.shape[-2:]))
    return means if radius < 1 else _blurred(means, radius)


def _blurred(mask: Tensor, radius: int) -> Tensor:
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / (radius / 2)) ** 2)
    kernel /= kernel.sum()
    padded = functional.pad(mask, (radius,) * 4, mode="reflect")
    return functional.conv2d(
        functional.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None]
    )


def toward_source(
    predicted: Tensor, latents: Tensor, source: Tensor, mask: Tensor, sigma: Tensor
) -> Tensor:
    """Return the prediction, outside of the mask the one that leads `latents` back to `source`.

    All are [pictures, channels, height, width] or broadcast to it; `sigma` is the noise level of
    the step, above 0. So DiffSynth's pipelines do it (`BasePipeline.step`).
    """
    return (1 - mask) * (latents - source) / sigma + mask * predicted
