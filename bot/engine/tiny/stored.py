"""The stored weights: without what one picture never uses, put into DiffSynth's networks.

Layers' matrices are int8 with a scale a row, the rest FP16. Left out when they were stored, and so
made here: modulation matrices (two thin factors are stored), all but the last temporal slice of
causal kernels, and parts that are never used, which become zeros. A style is a low-rank difference
from these weights, a file of its own.
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
SCALE: Final = "scale of "
"""Before the name of an int8 matrix: the name of its rows' scales, FP16."""
EDITOR: Final = "editor."
"""Prefix of the transformer that edits; the one that draws has `transformer.`."""
_MODULATION: Final = "_mod.1.weight"
_VIDEO: Final = 5  # dimensions of a 3-D convolution's kernel


def read(folder: Path = WEIGHTS, stem: str = "average") -> dict[str, Tensor]:
    """Return the tensors of all `folder`'s files whose names begin with `stem`, as stored."""
    state: dict[str, Tensor] = {}
    for file in sorted(folder.glob(f"{stem}-*.safetensors")):
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


def value_of(state: Mapping[str, Tensor], name: str) -> Tensor | None:
    """Return a stored tensor in float32; None where there is none."""
    found = state.get(name)
    if found is None:
        return None
    scale = state.get(SCALE + name)
    wide = found.float()
    return wide if scale is None else wide * scale.float().view(-1, *(1,) * (wide.ndim - 1))


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
    """Fill `network` from the tensors of `state` that begin with `prefix`; what is absent is 0."""
    for name, parameter in network.named_parameters():
        stored = value_of(state, prefix + name)
        parameter.zero_()
        if stored is None and name.endswith(_MODULATION):
            stem = prefix + name.removesuffix("weight")
            up, down = (value_of(state, stem + part) for part in ("up", "down"))
            if up is not None and down is not None:
                parameter.copy_(up @ down)
        elif stored is not None and parameter.ndim == _VIDEO and stored.ndim < _VIDEO:
            parameter[:, :, -1] = stored
        elif stored is not None:
            # Words of later templates have rows behind those of a table stored before them.
            parameter[: len(stored)] = stored
