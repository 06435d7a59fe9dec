"""Latents as the transformer's tokens and back: a token is a patch of 2 x 2 latent pixels."""

from __future__ import annotations

from torch import Tensor


def to_patches(latents: Tensor) -> Tensor:
    """Return [pictures, tokens, 64] of [pictures, 16, height, width]."""
    grid = latents.unflatten(2, (-1, 2)).unflatten(4, (-1, 2))
    return grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def from_patches(patches: Tensor, height: int, width: int) -> Tensor:
    """Return [pictures, 16, height, width] of [pictures, tokens, 64]."""
    grid = patches.unflatten(1, (height // 2, width // 2)).unflatten(-1, (-1, 2, 2))
    return grid.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
