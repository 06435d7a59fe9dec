"""What is tried of each family: its transformer, its text encoder, its VAE."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from diffsynth.models.qwen_image_21_vae import QwenImage21VAE
from diffsynth.models.qwen_image_vae import QwenImageVAE

from bot.engine.models import qwen_image_21_streamed, qwen_image_streamed
from bot.engine.models.streamed_card import StreamedFamily
from bot.engine.stream.flat_vae import flatten
from bot.engine.stream.slim_vae import slim
from bot.engine.stream.vae_kind import QWEN_IMAGE_21_VAE, QWEN_IMAGE_VAE, VaeKind
from bot.engine.tiny.model import UNTRAINED, TinyVAE
from bot.lab.step.subject import QWEN_IMAGE, QWEN_IMAGE_21, Subject


@dataclass(frozen=True, slots=True)
class TriedFamily:
    """A family's networks at full size, and as toys that run on a CPU.

    `vae` and `small_vae` make the VAE; `slimmed` takes out of it what single pictures do not need.
    """

    subject: Subject
    streamed: StreamedFamily
    vae_kind: VaeKind
    vae: type[Any]
    small_vae: Callable[[], Any]
    slimmed: Callable[[Any], None]


_QWEN_IMAGE: Final = TriedFamily(
    QWEN_IMAGE,
    qwen_image_streamed.FAMILY,
    QWEN_IMAGE_VAE,
    QwenImageVAE,
    lambda: TinyVAE(UNTRAINED),
    flatten,
)
_QWEN_IMAGE_21: Final = TriedFamily(
    QWEN_IMAGE_21,
    qwen_image_21_streamed.FAMILY,
    QWEN_IMAGE_21_VAE,
    QwenImage21VAE,
    lambda: QwenImage21VAE(base_dim=8, decoder_base_dim=8, num_res_blocks=1),
    slim,
)
TRIED: Final[Mapping[str, TriedFamily]] = {
    "qwen-image": _QWEN_IMAGE,
    "qwen-image-21": _QWEN_IMAGE_21,
    "tiny": _QWEN_IMAGE,
}
"""By the name of a family in the catalogue: each that the streaming engine draws."""
