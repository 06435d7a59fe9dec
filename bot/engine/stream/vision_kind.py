"""Kinds of vision towers: what Qwen2.5-VL's and Qwen3-VL's differ in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class VisionKind:
    """A vision tower by its class in transformers' `module`, and how it takes pictures.

    A patch has `patch` x `patch` pixels, whose channels from 0 to 1 get `mean` taken off and are
    divided by `deviation`; four patches are a token. Sides become multiples of two patches, and an
    area in pixels outside of `areas` is scaled into them. `tokens` are those of a picture in its
    usual size, at most. `table`: patches have positions of an embedding table of their own.
    """

    module: str
    tower: str
    patch: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    areas: tuple[int, int]
    tokens: int
    table: bool = False


VISION25: Final = VisionKind(
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "Qwen2_5_VisionTransformerPretrainedModel",
    14,
    # OpenAI's CLIP's. All of it is what Qwen-Image-Edit's `processor/` says.
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
    (56 * 56, 28 * 28 * 1280),
    240,  # of `vision_size`, whatever its ratio; a square one has 196
)
"""Qwen2.5-VL's, with windows of attention."""
VISION3: Final = VisionKind(
    "transformers.models.qwen3_vl.modeling_qwen3_vl",
    "Qwen3VLVisionModel",
    16,
    # `preprocessor_config.json` of Qwen/Qwen3-VL-8B-Instruct.
    (0.5, 0.5, 0.5),
    (0.5, 0.5, 0.5),
    (256 * 256, 4096 * 4096),
    1024,  # of a million pixels, the area of Qwen-Image-2.1's usual pictures
    table=True,
)
"""Qwen3-VL's, some of whose blocks are also read by the language model's first layers."""
