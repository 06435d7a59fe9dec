"""The joint loss: flow matching of drawings and edits, cross-entropy of what is written."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bot.engine.tiny.tokenizer import (
    EDIT_PREFIX_IDS,
    IMAGE_ID,
    PAD_ID,
    PREFIX_IDS,
    SUFFIX,
    ByteTokenizer,
)
from bot.lab.tiny.train.flow import (
    DROPPED,
    Layer,
    joint_block,
    noise_levels,
    text_layer,
    text_states,
    velocity,
)
from bot.lab.tiny.train.joint.networks import JointNetworks
from bot.lab.tiny.train.joint.seeing import picture_states, places_of, vision_block, with_pictures

_TAIL: Final = len(ByteTokenizer().encode(SUFFIX))
_NOT_JUDGED: Final = -100


class Layers(NamedTuple):
    """The layers' functions, compiled or (by default) as they are."""

    text: Layer = text_layer
    block: Layer = joint_block
    vision: Layer = vision_block


def noisy(latents: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return latents with noise, its levels [pictures], and the velocity that leads to noise."""
    sigma = noise_levels(len(latents), latents.device, generator)
    noise = torch.randn(latents.shape, device=latents.device, generator=generator)
    level = sigma[:, None, None, None]
    return (1 - level) * latents + level * noise, sigma, noise - latents


def without_instructions(ids: Tensor, generator: torch.Generator) -> Tensor:
    """Return ids in which a share of `DROPPED` has no instruction, as guidance's other branch.

    Pictures stay: that branch sees them too.
    """
    dropped = torch.rand(len(ids), device=ids.device, generator=generator) < DROPPED
    places = torch.arange(ids.shape[1], device=ids.device)
    last = torch.where(ids == IMAGE_ID, places, 0).amax(1)  # then comes <|vision_end|>
    suffix = torch.tensor(ByteTokenizer().encode(SUFFIX), dtype=ids.dtype, device=ids.device)
    behind = places - (last[:, None] + 2)
    empty = torch.where(behind >= _TAIL, PAD_ID, suffix[behind.clamp(0, _TAIL - 1)])
    empty = torch.where(behind < 0, ids, empty)
    return torch.where(dropped[:, None], empty, ids)


def drawing_loss(
    networks: JointNetworks, latents: Tensor, ids: Tensor, counts: Tensor, layers: Layers,
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """Return the mean squared error of the velocity of drawings."""
    mixed, sigma, wanted = noisy(latents, generator)
    model = networks.text_encoder.model.language_model
    text = text_states(model, model.embed_tokens(ids), layers.text)[:, PREFIX_IDS:]
    got = velocity(networks.transformer, mixed, (), sigma, text, counts, layers.block)
    return functional.mse_loss(got.float(), wanted)


def seen_states(networks: JointNetworks, pictures: Tensor, layers: Layers) -> Tensor:
    """Return rows [pictures, 64, width] of the language model of uint8 [pictures, 3, 224, 224]."""
    return picture_states(networks.text_encoder.model.visual, pictures, layers.vision)


def read_states(
    networks: JointNetworks, ids: Tensor, pictures: Tensor | None, layers: Layers
) -> Tensor:
    """Return the last states [prompts, tokens, width] of prompts with `pictures`' rows in them."""
    model = networks.text_encoder.model.language_model
    embedded = with_pictures(model, ids, pictures)
    return text_states(model, embedded, layers.text, places_of(ids))


def editing_loss(
    networks: JointNetworks, target: Tensor, references: list[Tensor], states: Tensor, ids: Tensor,
    layers: Layers, generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """Return the mean squared error of the velocity of edits; `states` are those of all `ids`."""
    mixed, sigma, wanted = noisy(target, generator)
    text, counts = states[:, EDIT_PREFIX_IDS:], (ids != PAD_ID)[:, EDIT_PREFIX_IDS:]
    got = velocity(networks.editor, mixed, references, sigma, text, counts, layers.block)
    return functional.mse_loss(got.float(), wanted)


def writing_loss(
    networks: JointNetworks, states: Tensor, ids: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of answers, and the share that is right to the last byte.

    `start` [exchanges] is where each answer begins in `ids`; it ends with <|im_end|>.
    """
    places = torch.arange(ids.shape[1], device=ids.device)
    judged = (places >= start[:, None]) & (ids != PAD_ID)
    wanted = torch.where(judged, ids, _NOT_JUDGED)[:, 1:]
    logits = networks.text_encoder.lm_head(states[:, :-1]).float()
    loss = functional.cross_entropy(
        logits.flatten(0, 1), wanted.flatten(), ignore_index=_NOT_JUDGED
    )
    right = (logits.argmax(-1) == wanted) | (wanted == _NOT_JUDGED)
    return loss, right.all(1).float().mean()
