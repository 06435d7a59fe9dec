"""The stored weights: FP16, without what one picture never uses, put into DiffSynth's networks.

Left out when they were stored, and so made here: modulation matrices (two thin factors are stored),
all but the last temporal slice of causal kernels, and parts that are never used, which become
zeros. A style is a low-rank difference from these weights, a file of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bot.engine.files.download import load_error
from bot.words import mark

WEIGHTS: Final = Path(__file__).parent / "weights"
STYLES: Final = WEIGHTS / "styles"
_MODULATION: Final = "_mod.1.weight"
_VIDEO: Final = 5  # dimensions of a 3-D convolution's kernel


def read(folder: Path = WEIGHTS) -> dict[str, Tensor]:
    """Return the stored tensors of all `folder`'s files, still in FP16."""
    state: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        state |= load_file(file)
    return state


def read_style(name: str, folder: Path = STYLES) -> dict[str, Tensor]:
    """Return the low-rank pairs `up` and `down` of the style `name`, still in FP16.

    Raises `EngineError` (`LOAD_FAILED`) where its file is missing.
    """
    file = folder / f"{name}.safetensors"
    if not file.is_file():
        raise load_error(
            mark("The weights of the style {style} are missing; install the bot anew."),
            f"{file} is missing",
            style=name,
        )
    return load_file(file)


@torch.no_grad()
def add_style(pairs: Mapping[str, Tensor], prefix: str, network: nn.Module) -> None:
    """Add `up` [out, r] times `down` [r, in], in float32, to the weights that they are named for.

    `pairs` whose names begin with `prefix` are those of `network`.
    """
    for name, parameter in network.named_parameters():
        stem = prefix + name.removesuffix("weight")
        if name.endswith(".weight") and f"{stem}up" in pairs:
            parameter.add_(pairs[f"{stem}up"].float() @ pairs[f"{stem}down"].float())


@torch.no_grad()
def expand(state: Mapping[str, Tensor], prefix: str, network: nn.Module) -> None:
    """Fill `network` from the tensors of `state` that begin with `prefix`."""
    for name, parameter in network.named_parameters():
        stored = state.get(prefix + name)
        if stored is None and name.endswith(_MODULATION):
            stem = prefix + name.removesuffix("weight")
            parameter.copy_(state[f"{stem}up"].float() @ state[f"{stem}down"].float())
        elif stored is None:
            parameter.zero_()
        elif parameter.ndim == _VIDEO and stored.ndim < _VIDEO:
            parameter.zero_()[:, :, -1] = stored
        else:
            parameter.copy_(stored)
