"""All networks but the VAE, trained together: two transformers, and what sees and writes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bot.engine.tiny.model import TRAINED, TinyTextEncoder
from bot.engine.tiny.stored import EDITOR
from bot.lab.tiny.train.networks import UNUSED, take_stored, trained_transformer
from bot.lab.tiny.train.optimizers import Muon, layered_matrices

_DRAWING: str = "transformer."


class JointNetworks(nn.Module):
    """The text encoder with vision tower and language head, the drawing and editing transformers.

    `text_encoder` and `transformer` are `Painter`'s; `editor` is `transformer` with references.
    """

    def __init__(self) -> None:
        super().__init__()
        self.text_encoder = TinyTextEncoder(TRAINED)
        self.transformer = trained_transformer()
        self.editor = trained_transformer()

    def take(self, states: Mapping[str, Tensor]) -> None:
        """Begin with stored weights; an editor that there is none of begins as what draws."""
        states = dict(states)
        if not any(name.startswith(EDITOR) for name in states):
            states |= {
                EDITOR + name.removeprefix(_DRAWING): value
                for name, value in states.items()
                if name.startswith(_DRAWING)
            }
        take_stored(self, states)

    def keep_all_but_editor(self) -> None:
        """Leave everything as it is from now on, the editing transformer excepted."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad = name.startswith(EDITOR)

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the parameters that are stored; the others are zeros."""
        unused = (*UNUSED, *(EDITOR + name.removeprefix(_DRAWING) for name in UNUSED))
        return {
            name: value for name, value in self.named_parameters() if not name.startswith(unused)
        }


def joint_optimizers(
    networks: JointNetworks, rate: float, drawing: float
) -> list[torch.optim.Optimizer]:
    """Return Muon for the layers' matrices and AdamW for all else.

    What draws, which is trained already, learns at `drawing` times `rate`.
    """
    made: list[torch.optim.Optimizer] = []
    named = {k: v for k, v in networks.trained().items() if v.requires_grad}
    for share, chosen in (
        (1.0, {k: v for k, v in named.items() if not k.startswith(_DRAWING)}),
        (drawing, {k: v for k, v in named.items() if k.startswith(_DRAWING)}),
    ):
        if not chosen:
            continue
        inside, rest = layered_matrices(chosen)
        made.append(Muon(inside, share * rate, 0.01))
        made.append(
            torch.optim.AdamW(
                rest, lr=share * rate, betas=(0.9, 0.98), weight_decay=0.0, foreach=True
            )
        )
    return made
