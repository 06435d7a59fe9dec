"""The layers around the blocks: what goes into the first one, and what comes out of the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bot.engine.stream.block import EPSILON
from bot.engine.stream.budget import Work
from bot.engine.stream.device import Device
from bot.engine.stream.generation import DoubleGeneration, Unit, from_patches, to_patches
from bot.engine.stream.layout import Geometry


class OuterLayers:
    """A `QwenImageDiT` without its blocks, on the device, in the activations' type."""

    def __init__(
        self, network: Any, geometry: Geometry, device: Device, dtype: torch.dtype
    ) -> None:
        self.network = network.to(device=device.torch, dtype=dtype)
        self._geometry = geometry
        self._device = device.torch
        self._dtype = dtype

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        numbers = sum(parameter.numel() for parameter in self.network.parameters())
        return numbers * self._dtype.itemsize

    @property
    def text_width(self) -> int:
        """Numbers that the text encoder gives for a token."""
        return self.network.txt_in.in_features

    def texts(self, prompts: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return each prompt [tokens, text_width] as the blocks take it, [tokens, dim]."""
        network = self.network
        return tuple(
            network.txt_in(network.txt_norm(prompt.to(self._device, self._dtype)[None]))[0]
            for prompt in prompts
        )

    def ropes(self, work: Work) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the rotations of the image's tokens and of each text's.

        Each is [tokens, head_dim / 2, 2]; the image's are the target's, then those of each
        reference, which lies in a frame of its own.
        """
        sizes = ((work.width, work.height), *work.references)
        shapes = [(1, height // 16, width // 16) for width, height in sizes]
        embed = self.network.pos_embed
        ropes = [embed(shapes, [length], device=self._device) for length in work.text_tokens]
        # DiffSynth keeps each size's, 2 to 8 MB of the card that no plan knows of, for ever.
        embed.rope_cache.clear()
        image = torch.view_as_real(ropes[0][0]).contiguous()
        return image, tuple(torch.view_as_real(text).contiguous() for _, text in ropes)

    def embedded(self, scaled: Tensor) -> Tensor:
        """Return the embeddings [steps, dim] of timesteps that were divided by 1000."""
        return self.network.time_text_embed(scaled, self._dtype)

    def final_modulation(self, embedding: Tensor) -> Tensor:
        """Return the last layer's scale and shift [steps, 2 dim] of silu(embedding)."""
        return self.network.norm_out.linear(embedding)

    def patches(self, references: Sequence[Tensor]) -> Tensor | None:
        """Return all tokens [tokens, 64] of latents [1, 16, height, width], if there are any."""
        if not references:
            return None
        placed = [latents.to(self._device, self._dtype) for latents in references]
        return torch.cat([to_patches(latents)[0] for latents in placed])

    def units(self, generation: DoubleGeneration, latents: Tensor) -> list[Unit]:
        """Cut `latents` [pictures, 16, height / 8, width / 8] into what visits a block at once."""
        units: list[Unit] = []
        texts, ropes = generation.texts, generation.text_ropes
        for patches in to_patches(latents.to(self._device, self._dtype)):
            if generation.references is not None:
                patches = torch.cat((patches, generation.references))  # noqa: PLW2901
            image = self.network.img_in(patches)
            if generation.work.joint:
                branches = torch.stack([image] * len(texts))
                units.append(Unit(branches, list(texts), list(ropes)))
            else:
                units += [
                    Unit(image[None], [text], [rope])
                    for text, rope in zip(texts, ropes, strict=True)
                ]
        return units

    def finished(self, unit: Unit, final: Tensor, height: int, width: int) -> Tensor:
        """Return a unit's predicted noise [branches, 16, height, width], sizes in latent pixels.

        `final` [2, dim] is the timestep's scale and shift of the last layer.
        """
        # What became of the references is of no use to anybody.
        target = unit.image[:, : (height // 2) * (width // 2)]
        image = functional.layer_norm(target, (self._geometry.dim,), final[0], final[1], EPSILON)
        return from_patches(self.network.proj_out(image), height, width)
