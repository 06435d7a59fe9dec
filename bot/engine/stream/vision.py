"""The vision tower of Qwen2.5-VL or Qwen3-VL: pictures become rows of the language model's input.

It is transformers' own tower; only its weights are elsewhere. They wait in main memory and come
through the streamer's slots, as the language model's layers do, so that none of it is on the device
while it rests. Pictures share each visit of a block but are computed one after the other, so that
a picture's result doesn't depend on those beside it.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakMethod

import torch
from diffsynth.core.vram.initialization import skip_model_initialization
from torch import Tensor, nn
from torch.func import functional_call

from bot.engine.stream.device import Device
from bot.engine.stream.streamer import Streamer
from bot.engine.stream.vision_kind import VISION25, VisionKind
from bot.engine.stream.vision_picture import VisionPicture

_TABLE: Final = "pos_embed"
_DEEP: Final = "deepstack_features"
_MERGED: Final = 4
# Live tensors of a block at their peak, per number of the hidden state: queries and keys are
# turned in float32, beside them the three wide tensors of the feed-forward part, 2.7 each.
_PEAK: Final = 24


class StreamedVisionTower:
    """Does as transformers' tower of the `kind` does, whose `config` it takes.

    Give it every block (`add_block`) and the layers around them (`set_outer`) before the first
    picture. Weights stay in the activations' type, unlike the language model's: a picture goes
    through them once, so eight bits would save a fraction of a second and cost nearness; and
    integers are rotated in groups of 64, which its feed-forward layers, 3420 wide, are not made of.
    """

    def __init__(
        self,
        config: Any,
        device: Device,
        dtype: torch.dtype,
        streamer: Streamer,
        kind: VisionKind = VISION25,
    ) -> None:
        config = copy.deepcopy(config)
        config._attn_implementation = "sdpa"  # noqa: SLF001 - as the whole model would choose
        self.device = device
        self.kind = kind
        self.width: int = config.hidden_size
        self.blocks: int = config.depth
        self._dtype = dtype
        self._streamer = streamer
        self._outer: dict[str, Tensor] = {}
        self._outer_there: dict[str, Tensor] = {}
        self._lengths: list[int] = []
        config.depth = 1  # The one block that stands for all of them.
        with skip_model_initialization():
            made: Any = getattr(importlib.import_module(kind.module), kind.tower)
            self._tower = made._from_config(config).eval()  # noqa: SLF001
        self._block: nn.Module = self._tower.blocks[0]
        self._layers: dict[str, nn.Module] = {
            "patch_embed": self._tower.patch_embed,
            "merger": self._tower.merger,
        }
        taps: Sequence[nn.Module] = getattr(self._tower, "deepstack_merger_list", ())
        self._layers |= {f"deepstack_merger_list.{n}": each for n, each in enumerate(taps)}
        self._row = (1 + len(taps)) * config.out_hidden_size
        # Matrices first: their sizes keep each other's beginnings aligned.
        ordered = sorted(self._block.named_parameters(), key=lambda named: -named[1].ndim)
        self._shapes = {name: parameter.shape for name, parameter in ordered}
        self._outer_names: list[str] = []
        for name, layer in self._layers.items():
            self._outer_names += [f"{name}.{each}" for each in layer.state_dict()]
            self._tower.set_submodule(name, _Instead(self._around, name))
        self._tower.blocks = nn.ModuleList(
            _Instead(self._visited, index) for index in range(self.blocks)
        )

    def set_outer(self, state: Mapping[str, Tensor]) -> None:
        """Take the layers around the blocks, by their names in the tower; they stay where they are.

        Raises `KeyError` for a weight that is missing.
        """
        self._outer = {name: state[name].to(self._dtype) for name in self._outer_names}
        if self.kind.table:
            # Looked up and not multiplied: it may stay in the tower, which is moved as a whole.
            table = state[f"{_TABLE}.weight"].to(self._dtype)
            self._tower.pos_embed.weight = nn.Parameter(table, requires_grad=False)

    def add_block(self, index: int, state: Mapping[str, Tensor]) -> None:
        """Place block `index`, by its tensors' names in the block, in main memory.

        Raises `KeyError` for a weight that is missing, `RuntimeError` for one of another shape.
        """
        flat = torch.cat(
            [
                state[name].to(self._dtype).reshape(shape).reshape(-1)
                for name, shape in self._shapes.items()
            ]
        )
        self._streamer.add(("vision", index), flat.view(torch.uint8), resident=False)

    @classmethod
    def from_module(
        cls,
        encoder: Any,
        device: Device,
        dtype: torch.dtype,
        streamer: Streamer,
        kind: VisionKind = VISION25,
    ) -> StreamedVisionTower:
        """Build it from a whole encoder, a network of transformers' with a vision tower."""
        visual = encoder.model.visual
        made = cls(encoder.config.vision_config, device, dtype, streamer, kind)
        made.set_outer({name: tensor.detach() for name, tensor in visual.state_dict().items()})
        for index, block in enumerate(visual.blocks):
            made.add_block(index, block.state_dict())
        return made

    @property
    def names(self) -> list[str]:
        """Names of all tensors in the tower."""
        blocks = [f"blocks.{index}.{name}" for index in range(self.blocks) for name in self._shapes]
        table = [f"{_TABLE}.weight"] if self.kind.table else []
        return [*self._outer_names, *table, *blocks]

    @property
    def order(self) -> list[Hashable]:
        """The streamer's keys in the order of a pass."""
        return [("vision", index) for index in range(self.blocks)]

    @property
    def outer_bytes(self) -> int:
        """Bytes of main memory that the layers around the blocks take."""
        table = self._tower.pos_embed.weight.nbytes if self.kind.table else 0
        return table + sum(tensor.nbytes for tensor in self._outer.values())

    @property
    def block_bytes(self) -> int:
        """Bytes of a block."""
        return sum(shape.numel() for shape in self._shapes.values()) * self._dtype.itemsize

    def working_bytes(self, tokens: int) -> int:
        """Estimate what a pass over pictures of `tokens` in all takes beside the slots."""
        hidden = tokens * _MERGED * self.width * self._dtype.itemsize
        return self.outer_bytes + _PEAK * hidden + tokens * self._row * self._dtype.itemsize

    @torch.no_grad()
    def encode(
        self, pictures: Sequence[VisionPicture], then: Sequence[Hashable] = ()
    ) -> list[Tensor]:
        """Return each picture's [tokens, width of the language model], in main memory.

        What layers of that model read besides, as many rows for each, lies beside it (`Insertion`).

        `then` names what is visited next: it is copied meanwhile.
        """
        if not pictures:
            return []
        device = self.device.torch
        grid = torch.tensor([[1, 2 * one.rows, 2 * one.columns] for one in pictures], device=device)
        rows = torch.cat([one.patches for one in pictures]).to(device, self._dtype)
        self._lengths = [len(one.patches) for one in pictures]
        with self._outer_on_device():
            self._streamer.begin([*self.order, *then])
            made = self._tower(rows, grid_thw=grid)
        # Versions of transformers before 5 return the tensors themselves.
        merged, deep = made if isinstance(made, tuple) else (made, ())
        merged, deep = getattr(made, "pooler_output", merged), getattr(made, _DEEP, deep)
        states = torch.cat([merged, *deep], 1).cpu()
        self._streamer.begin(then) if then else self._streamer.drop_slots()
        return list(states.split([one.tokens for one in pictures]))

    @contextmanager
    def _outer_on_device(self) -> Generator[None]:
        device = self.device.torch
        self._outer_there = {name: t.to(device) for name, t in self._outer.items()}
        self._tower.to(device)  # The frequencies of its positions.
        try:
            yield
        finally:
            self._outer_there = {}
            self._tower.to("cpu")

    def _around(self, name: str, rows: Tensor) -> Tensor:
        """Take all pictures' `rows` through the layers called `name`."""
        start = f"{name}."
        there = self._outer_there.items()
        weights = {k.removeprefix(start): t for k, t in there if k.startswith(start)}
        layer, parts = self._layers[name], rows.split(self._lengths)
        return torch.cat([functional_call(layer, weights, (part,)) for part in parts])

    def _visited(
        self,
        index: int,
        states: Tensor,
        cu_seqlens: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        **options: Any,
    ) -> Tensor:
        """Take all pictures' `states` [patches, width] through a block.

        `cu_seqlens` are the rows where windows begin and end, also across pictures.
        """
        parts: list[Tensor] = []
        with self._streamer.visit(("vision", index)) as flat:
            weights = self._weights(flat)
            begin = 0
            for length in self._lengths:
                end = begin + length
                edges = cu_seqlens[(cu_seqlens >= begin) & (cu_seqlens <= end)] - begin
                cos, sin = (each[begin:end] for each in position_embeddings)
                options |= {"cu_seqlens": edges, "position_embeddings": (cos, sin)}
                parts.append(functional_call(self._block, weights, (states[begin:end],), options))
                begin = end
        return torch.cat(parts)

    def _weights(self, flat: Tensor) -> dict[str, Tensor]:
        numbers = flat[: self.block_bytes].view(self._dtype)
        parts = numbers.split([shape.numel() for shape in self._shapes.values()])
        return {
            name: part.view(shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }


class _Instead(nn.Module):
    """A method in a layer's place, called with `first` before the layer's own arguments."""

    def __init__(self, method: Callable[..., Tensor], *first: int | str) -> None:
        super().__init__()
        # Not held: gigabytes of weights would wait for the garbage collector to find the circle.
        self._method = WeakMethod(method)
        self._first = first

    def forward(self, *args: Any, **options: Any) -> Tensor:
        method = self._method()
        assert method is not None
        return method(*self._first, *args, **options)
