"""The whole prediction in float32, whose weights have no room on any card: a block at a time.

It is DiffSynth's own step. The weights are the bfloat16 ones of the other variants, widened, so
that what differs is the arithmetic and the rounding of weights.
"""

from __future__ import annotations

from typing import Any

import torch
from diffsynth.models.qwen_image_dit import QwenImageTransformerBlock
from torch import Tensor, nn

from bot.engine.stream.layout import Geometry
from bot.lab.step import parts, random_weights


class _Fleeting(nn.Module):
    """A block that is made when it is called, and gone after that."""

    def __init__(
        self, geometry: Geometry, index: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self._made = (geometry, index, device, dtype)

    def forward(self, *arguments: Any, **named: Any) -> Any:
        geometry, index, device, dtype = self._made
        with torch.device("meta"):
            block = QwenImageTransformerBlock(
                dim=geometry.dim,
                num_attention_heads=geometry.heads,
                attention_head_dim=geometry.head_dim,
            )
        state = random_weights.random_block(geometry, index, device, dtype)
        block.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)
        return block.eval()(*arguments, **named)


@torch.no_grad()
def prediction(
    geometry: Geometry,
    text: int,
    prompts: list[Tensor],
    latents: Tensor,
    timesteps: Tensor,
    guidance: float,
    dtype: torch.dtype,
) -> Tensor:
    """Return the guided prediction in float32 of weights that were drawn in `dtype`.

    `prompts` are the positive and the negative one's [tokens, text], `latents` [1, 16, height / 8,
    width / 8] on the device.
    """
    device = latents.device
    dit = random_weights.random_dit(geometry, text, device, dtype, blocks=False).float()
    dit.transformer_blocks = nn.ModuleList(
        _Fleeting(geometry, index, device, dtype) for index in range(geometry.layers)
    )
    # Prompts, too, as the others see them.
    given = [prompt.to(dtype) for prompt in prompts]
    branch = parts.reference_branch(dit, latents.float(), timesteps.to(dtype).float())
    positive, negative = (branch(prompt) for prompt in given)
    return (negative + guidance * (positive - negative)).cpu()
