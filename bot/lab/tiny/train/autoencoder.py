"""The VAE's loss, and latents brought to the mean and deviation that the pipeline expects."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

_EDGES: Final = 1.0
_COARSE: Final = 0.5
_PRIOR: Final = 1e-3
_NOISE: Final = 0.2
"""Deviation of the noise on latents, at most: the decoder learns to forgive a transformer."""


def vae_loss(vae: Any, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Return the loss of [pictures, 3, height, width].

    L1 of pixels, of their differences along both axes (what a viewer sees as edges) and of two
    coarser scales. The posterior is a normal of fixed deviation, so its KL divergence from the
    standard normal is half the mean square.
    """
    latents = vae.encode(pictures)
    deviation = _NOISE * torch.rand(
        len(latents), 1, 1, 1, device=latents.device, generator=generator
    )
    noise = torch.randn(latents.shape, device=latents.device, generator=generator)
    decoded = vae.decode((latents + deviation * noise).to(latents.dtype)).float()
    plain = functional.l1_loss(decoded, pictures)
    error = decoded - pictures
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    coarse = torch.stack([functional.avg_pool2d(error, side).abs().mean() for side in (4, 16)])
    prior = latents.float().square().mean() / 2
    return plain + _EDGES * edges + _COARSE * coarse.sum() + _PRIOR * prior


@torch.no_grad()
def normalise(vae: Any, latents: Tensor) -> None:
    """Fold an affine map into both 1x1 convolutions, so that `latents` get mean 0, deviation 1.

    `latents` [pictures, 16, height, width] are what `vae.encode` gives now; decoding undoes it.
    """
    mean = latents.mean((0, 2, 3))
    gain = 1 / latents.std((0, 2, 3)).clamp(min=1e-4)
    centre, spread = (x.flatten().to(mean) for x in (vae.mean, 1 / vae.std))
    quant, post = vae.quant_conv, vae.post_quant_conv
    # Encoding: z -> (z - centre) / spread is the normalised latent y; y -> (y - mean) * gain.
    rows = gain
    shift = centre * (1 - rows) - mean * gain * spread
    used = slice(0, len(mean))
    quant.weight[used] *= rows[:, None, None, None]
    quant.bias[used] = quant.bias[used] * rows + shift
    # Decoding takes z back before the convolution: z -> (z - shift) / gain.
    flat = post.weight[:, :, 0, 0]
    post.bias -= flat @ (shift / rows)
    post.weight /= rows[None, :, None, None]
