"""Classifier-free guidance (Ho & Salimans, arXiv:2207.12598), with its strength held in check."""

from __future__ import annotations

import torch
from torch import Tensor

from bot.engine.stream.generation import from_patches, to_patches


def guided(
    positive: Tensor, negative: Tensor, guidance: float, *, norm: bool, patch: int = 2
) -> Tensor:
    """Return negative + guidance * (positive - negative) of [pictures, channels, height, width].

    With `norm` each token, the 64 numbers of a square of `patch` x `patch` latent pixels, is then
    scaled to the length that it has in `positive`: the guidance turns a prediction and makes it no
    stronger. So does the pipeline of Qwen-Image's authors, for which their guidance of 4 was chosen
    (`QwenImagePipeline` in diffusers, where predictions are still cut into tokens).
    """
    combined = negative + guidance * (positive - negative)
    if not norm:
        return combined
    height, width = positive.shape[-2:]
    # In float32: the squares of 64 numbers of bfloat16 would lose half of their digits.
    wanted = _lengths(positive, patch)
    found = _lengths(combined, patch)
    # Where nothing is left of a token there is nothing to scale.
    scale = torch.where(found > 0, wanted / found, 1.0).to(combined.dtype)
    return from_patches(to_patches(combined, patch) * scale, height, width, patch)


def _lengths(prediction: Tensor, patch: int) -> Tensor:
    """Return the length of each token [pictures, tokens, 1] in float32."""
    return torch.linalg.vector_norm(to_patches(prediction, patch).float(), dim=-1, keepdim=True)
