"""The whole prediction in float32, whose weights have no room on any card: a block at a time.

It is DiffSynth's own step. The weights are the bfloat16 ones of the other variants, widened, so
that what differs is the arithmetic and the rounding of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bot.engine.stream.layout import Geometry
from bot.lab.step import parts, random_weights
from bot.lab.step.subject import Subject


class _Fleeting(nn.Module):
    """A block that is made when it is called, and gone after that."""

    def __init__(
        self,
        subject: Subject,
        geometry: Geometry,
        index: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self._subject = subject
        self._made = (geometry, index, device, dtype)

    def forward(self, *arguments: Any, **named: Any) -> Any:
        with torch.device("meta"):
            block = self._subject.block(self._made[0])
        state = random_weights.random_block(*self._made, self._subject)
        block.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)
        return block.eval()(*arguments, **named)


@torch.no_grad()
def prediction(
    subject: Subject,
    geometry: Geometry,
    text: int,
    prompts: list[Tensor],
    latents: Tensor,
    timesteps: Tensor,
    dtype: torch.dtype,
    references: Sequence[Tensor] = (),
) -> Tensor:
    """Return the guided prediction in float32 of weights that were drawn in `dtype`.

    `prompts` are the positive and, with guidance, the negative one's [tokens, text], `latents`
    [1, channels, height, width] on the device.
    """
    device = latents.device
    dit = random_weights.random_dit(geometry, text, device, dtype, subject, blocks=False).float()
    dit.transformer_blocks = nn.ModuleList(
        _Fleeting(subject, geometry, index, device, dtype) for index in range(geometry.layers)
    )
    # Prompts and references, too, as the others see them.
    given = [prompt.to(dtype) for prompt in prompts]
    seen = [each.to(dtype) for each in references]
    branch = parts.stock_branch(subject, dit, latents.float(), timesteps.to(dtype).float(), seen)
    return parts.guided(subject, [branch(prompt) for prompt in given]).cpu()
