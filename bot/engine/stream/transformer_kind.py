"""Kinds of transformers by their published files, and the network that is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from diffsynth.core.vram.initialization import skip_model_initialization

from bot.engine.stream.any_dit import AnyDiT, any_single_dit
from bot.engine.stream.double_stream import DoubleStream
from bot.engine.stream.layout import Geometry
from bot.engine.stream.network import NetworkKind
from bot.engine.stream.parts import DOUBLE_PARTS, SINGLE_PARTS, BlockParts
from bot.engine.stream.published import Sources
from bot.engine.stream.single_stream import SingleStream


@dataclass(frozen=True, slots=True)
class TransformerKind:
    """How a transformer's files are cut, and what is made of them.

    `outer` returns DiffSynth's network without blocks and without values, as wide as the files say.
    """

    parts: BlockParts
    outer: Callable[[Geometry, Sources], Any]
    network: NetworkKind


def _double(geometry: Geometry, sources: Sources) -> Any:
    _, (_, text) = sources.spec("txt_in.weight")
    with skip_model_initialization():
        return AnyDiT(geometry, text, blocks=False)


def _single(geometry: Geometry, sources: Sources) -> Any:
    _, (_, text) = sources.spec("txt_in.in_layer.weight")
    with skip_model_initialization():
        return any_single_dit(geometry, text, blocks=False)


DOUBLE: Final = TransformerKind(DOUBLE_PARTS, _double, DoubleStream)
"""Qwen-Image's, and Qwen-Image-Edit-2509's."""
ZERO_COND: Final = replace(DOUBLE, network=partial(DoubleStream, zero_cond_t=True))
"""Qwen-Image-Edit-2511's, whose files nothing tells from those of `DOUBLE`."""
SINGLE: Final = TransformerKind(SINGLE_PARTS, _single, SingleStream)
"""Qwen-Image-2.1's."""
