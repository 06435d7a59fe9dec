"""The VAE with random weights, and what it weighs."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffsynth.core.vram.initialization import skip_model_initialization

from bot.engine.stream.decode import PictureCodec
from bot.engine.stream.device import Device
from bot.lab.trial.family import TriedFamily


def _network(family: TriedFamily, *, toy: bool) -> Any:
    with skip_model_initialization():
        network = family.small_vae() if toy else family.vae()
        family.slimmed(network)
    return network


def weight_bytes(family: TriedFamily, dtype: torch.dtype) -> int:
    """Return what the full-size VAE takes of the card all the time, in bytes."""
    return sum(p.numel() for p in _network(family, toy=False).parameters()) * dtype.itemsize


def random_codec(
    family: TriedFamily, device: Device, dtype: torch.dtype, *, toy: bool
) -> PictureCodec:
    """Return the VAE with weights at which pictures are noise, but numbers."""
    network = _network(family, toy=toy)
    generator = torch.Generator().manual_seed(1)

    def values(like: Any) -> torch.Tensor:
        scale = 1 / math.sqrt(max(1, like[0].numel())) if like.ndim > 1 else 0.1
        return (torch.randn(like.shape, generator=generator) * scale).to(dtype)

    state = {name: values(parameter) for name, parameter in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    return PictureCodec(network.requires_grad_(False), device, dtype, family.vae_kind)
