"""Kinds of transformers that the step benchmark measures, and DiffSynth's own step of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import torch
from diffsynth.models.qwen_image_21_dit import QwenImage21TransformerBlock
from diffsynth.models.qwen_image_dit import QwenImageTransformerBlock
from diffsynth.pipelines.qwen_image import model_fn_qwen_image
from diffsynth.pipelines.qwen_image_21 import model_fn_qwen_image_21
from torch import Tensor, nn

from bot.engine.models.qwen_image_21 import mend_attention
from bot.engine.stream import double_stream, single_stream
from bot.engine.stream.any_dit import AnyDiT, any_single_dit
from bot.engine.stream.layout import Geometry, LatentShape
from bot.engine.stream.network import NetworkKind

Branch = Callable[[Any, Tensor, Tensor, Tensor, Sequence[Tensor]], Tensor]
"""DiffSynth's prediction by a network, of latents at a timestep [1], for a prompt's [tokens, n].

The last are reference pictures' latents.
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of transformer: its widths at full size and as a toy, and DiffSynth's parts of it.

    `whole` makes the network of widths, a token's numbers and whether it has blocks; `block` one
    of them. `text` and `small_text` are a prompt token's numbers; `references` tells whether it
    draws after other pictures.
    """

    full: Geometry
    text: int
    small: Geometry
    small_text: int
    guidance: float
    latents: LatentShape
    network: NetworkKind
    whole: Callable[[Geometry, int, bool], nn.Module]
    block: Callable[[Geometry], nn.Module]
    branch: Branch
    references: bool = True


def _double(
    dit: Any,
    latents: Tensor,
    timestep: Tensor,
    prompt: Tensor,
    references: Sequence[Tensor],
    *,
    zero_cond_t: bool = False,
) -> Tensor:
    return model_fn_qwen_image(
        dit=dit,
        latents=latents,
        timestep=timestep,
        prompt_emb=prompt[None],
        prompt_emb_mask=torch.ones(1, len(prompt), dtype=torch.long, device=latents.device),
        height=8 * latents.shape[2],
        width=8 * latents.shape[3],
        edit_latents=list(references) or None,
        zero_cond_t=zero_cond_t,
    )


def _double_block(geometry: Geometry) -> nn.Module:
    return QwenImageTransformerBlock(
        dim=geometry.dim, num_attention_heads=geometry.heads, attention_head_dim=geometry.head_dim
    )


def _single(
    dit: Any, latents: Tensor, timestep: Tensor, prompt: Tensor, references: Sequence[Tensor]
) -> Tensor:
    assert not references
    mend_attention()
    pictures = torch.zeros(1, len(prompt), dtype=torch.bool, device=latents.device)
    found: Tensor = model_fn_qwen_image_21(dit, latents, timestep, prompt[None], None, pictures)
    return found


def _single_block(geometry: Geometry) -> nn.Module:
    return QwenImage21TransformerBlock(
        dim=geometry.dim, num_attention_heads=geometry.heads, attention_head_dim=geometry.head_dim
    )


QWEN_IMAGE: Final = Subject(
    full=Geometry(layers=60, dim=3072, heads=24),
    text=3584,
    small=Geometry(layers=6, dim=128, heads=2),
    small_text=48,
    guidance=4.0,
    latents=double_stream.LATENTS,
    network=double_stream.DoubleStream,
    whole=lambda geometry, text, blocks: AnyDiT(geometry, text, blocks=blocks),
    block=_double_block,
    branch=_double,
)
QWEN_IMAGE_EDIT: Final = replace(
    QWEN_IMAGE,
    network=partial(double_stream.DoubleStream, zero_cond_t=True),
    branch=partial(_double, zero_cond_t=True),
)
QWEN_IMAGE_21: Final = Subject(
    full=Geometry(layers=32, dim=4096, heads=32),
    text=4096,
    small=Geometry(layers=6, dim=128, heads=4),
    small_text=48,
    guidance=1.0,
    latents=single_stream.LATENTS,
    network=single_stream.SingleStream,
    whole=lambda geometry, text, blocks: any_single_dit(geometry, text, blocks=blocks),
    block=_single_block,
    branch=_single,
    references=False,
)
SUBJECTS: Final[Mapping[str, Subject]] = {
    "Qwen/Qwen-Image": QWEN_IMAGE,
    "Qwen/Qwen-Image-Edit-2511": QWEN_IMAGE_EDIT,
    "Qwen/Qwen-Image-2.1": QWEN_IMAGE_21,
}
"""By the name of a model of that kind."""
