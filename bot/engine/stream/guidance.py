"""Classifier-free guidance (Ho & Salimans, arXiv:2207.12598), with its strength held in check."""

from __future__ import annotations

import torch
from torch import Tensor

from bot.engine.stream.generation import from_patches, to_patches


def guided(positive: Tensor, negative: Tensor, guidance: float, *, norm: bool) -> Tensor:
    """Return negative + guidance * (positive - negative) of [pictures, 16, height, width].

    With `norm` each token, the 64 numbers of a patch of 2 x 2 latent pixels, is then scaled to the
    length that it has in `positive`: the guidance turns a prediction and makes it no stronger. So
    does the pipeline of Qwen-Image's authors, for which their guidance of 4 was chosen
    (`QwenImagePipeline` in diffusers, where predictions are still cut into tokens).
    """
    combined = negative + guidance * (positive - negative)
    if not norm:
        return combined
    height, width = positive.shape[-2:]
    # In float32: the squares of 64 numbers of bfloat16 would lose half of their digits.
    wanted = _lengths(positive)
    found = _lengths(combined)
    # Where nothing is left of a token there is nothing to scale.
    scale = torch.where(found > 0, wanted / found, 1.0).to(combined.dtype)
    return from_patches(to_patches(combined) * scale, height, width)


def _lengths(prediction: Tensor) -> Tensor:
    """Return the length of each token [pictures, tokens, 1] in float32."""
    return torch.linalg.vector_norm(to_patches(prediction).float(), dim=-1, keepdim=True)
