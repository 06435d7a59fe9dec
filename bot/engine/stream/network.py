"""The seam between kinds of transformers: what each does in its own way.

`StreamedDiT` does for all of them what does not differ: the plan, streaming, LoRAs, precision,
compiling, giving way, guidance. A family of models brings a class of this protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from bot.engine.stream.block import Matrix
from bot.engine.stream.budget import Peak, Work
from bot.engine.stream.device import Device
from bot.engine.stream.layout import Geometry, Kind, LatentShape, Layout
from bot.engine.stream.quantize import Matmul
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.weights import Additions, WeightStore


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a generation begins with.

    `prompts` are the text encoder's [tokens, width], one for each guidance branch; `timesteps`
    [steps] are the scheduler's, from 1000 down. `loras` names the LoRAs in use, which bring
    `additions`; `kernel` and `wide` say how blocks are computed. `references` are the latents
    [1, channels, height, width] of pictures that are looked at while others are drawn, of any
    sizes. `places` tells for each of them how many tokens of a prompt are in front of it; empty
    where references follow the picture that is drawn.
    """

    prompts: Sequence[Tensor]
    timesteps: Tensor
    work: Work
    loras: tuple[str, ...]
    additions: Additions
    kernel: Any
    wide: bool
    references: Sequence[Tensor] = ()
    places: tuple[int, ...] = ()


class Generation(Protocol):
    """What all steps of one request share; more of it is the network's own."""

    @property
    def work(self) -> Work:
        """What is drawn."""
        ...

    @property
    def structure(self) -> Hashable:
        """What of the generation a compiled block is specialised on, besides its kernel."""
        ...


class TransformerNetwork(Protocol):
    """A kind of transformer: layers around its blocks, on the device, and a block's code.

    A unit is what goes through a block at once, a moment what a step's timestep brings, and a
    block's weights what `bind` made of them; each is the network's own.
    """

    geometry: Geometry
    latents: LatentShape
    peak: Peak
    layouts: Mapping[Kind, Layout]
    """How the parts of a block are stored; every network has "block"."""
    block: Callable[..., Any]
    """The block as a function, which compilers take; `run` calls it, or what was compiled."""

    @property
    def outer(self) -> torch.nn.Module:
        """The layers around the blocks, by the names that LoRAs know."""
        ...

    @property
    def text_width(self) -> int:
        """Numbers that the text encoder gives for a token."""
        ...

    @property
    def size(self) -> int:
        """Bytes that stay on the device beside the blocks."""
        ...

    def kept_bytes(self, work: Work) -> int:
        """Bytes on the device that a generation of `work` holds while its steps run."""
        ...

    def kernel(self, matmul: Matmul) -> Any:
        """Return what a compiled block is specialised on; it can be hashed."""
        ...

    def bind(self, matrices: Mapping[str, Matrix], small: Mapping[str, Tensor]) -> Any:
        """Return a block's weights for `run`, of its matrices and its tensors that stay."""
        ...

    def begin(self, inputs: Inputs, weights: WeightStore) -> Generation:
        """Compute what every step shares."""
        ...

    def moment(self, generation: Any, step: int) -> Any:
        """Return what timestep `step` brings, on the device; good until the next call."""
        ...

    def units(self, generation: Any, latents: Tensor) -> list[Any]:
        """Cut `latents` [pictures, channels, height, width] into what visits a block at once."""
        ...

    def mark_lengths(self, generation: Any, units: Sequence[Any]) -> None:
        """Tell the compiler which sizes change from picture to picture."""
        ...

    def sample(self, generation: Any) -> tuple[Any, Any]:
        """Return an empty unit and moment for block 0 and all others, to compile with."""
        ...

    def run(
        self,
        block: Callable[..., Any],
        kernel: Any,
        unit: Any,
        generation: Any,
        moment: Any,
        index: int,
        weights: Any,
    ) -> None:
        """Take `unit` through block `index`: `block` is this network's, or compiled from it."""
        ...

    def finish(self, units: Sequence[Any], moment: Any, height: int, width: int) -> Tensor:
        """Return the prediction [pictures * branches, channels, height, width], in latents."""
        ...

    def forget(self, but_for: Inputs | None = None) -> None:
        """Drop what is kept of earlier generations: only `outer` is on the device then.

        But for what a generation of these inputs would use, where they are given.
        """
        ...


NetworkKind = Callable[[Any, Geometry, Device, TransformerSettings], TransformerNetwork]
"""Makes one of the layers around the blocks, the widths, the device and the settings."""
