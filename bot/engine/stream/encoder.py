"""The text encoder: a language model of Qwen's, layer by layer through the streamer.

Every layer is computed by transformers' own decoder layer; only its linear layers are ours, and
find their weights in the streamed buffer. Prompts share each visit of a layer but are multiplied
one after the other, so that a prompt's result doesn't depend on those beside it.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from bot.engine.stream.device import Device
from bot.engine.stream.layout import Packed
from bot.engine.stream.moving import move
from bot.engine.stream.storage import Storage, dequantize
from bot.engine.stream.streamer import Streamer
from bot.engine.stream.table import StoredTable
from bot.engine.stream.text_layout import QWEN25, TextFamily, TextGeometry, text_layout
from bot.engine.stream.vector import vector_linear, vectors_work
from bot.engine.stream.vision import StreamedVisionTower

# Live tensors of a layer at their peak, per element of the hidden state: the three wide tensors of
# the feed-forward part are 3 x 5.3 of them, norms are computed in float32.
_PEAK: Final = 22


@dataclass(frozen=True, slots=True)
class Pass:
    """What one run through all layers took."""

    tokens: int
    prompts: int
    seconds: float
    streamed_bytes: int


@dataclass(frozen=True, slots=True)
class Insertion:
    """Rows of a prompt that are not words: `states` [n, width] stand where `rows` [n] say.

    Wider ones, [n, (1 + layers) * width], are added there too, each part to what the layer of its
    number gave, from the first on: Qwen3-VL's "deepstack".
    """

    rows: Tensor
    states: Tensor


class _Streamed(nn.Module):
    """A linear layer whose weight is there during a visit; eight bits are widened at each use."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: Tensor | None = None
        self.bias: Tensor | None = None
        self.scale: Tensor | None = None
        self.scratch: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.stored
        assert weight is not None
        if self.scale is not None:
            if x.numel() == x.shape[-1] and vectors_work(x.device):
                return vector_linear(x, weight, self.scale, self.bias)
            assert self.scratch is not None
            wide = self.scratch[: weight.numel()].view(weight.shape)
            dequantize(weight, self.scale, wide)
            weight = wide
        return functional.linear(x, weight, self.bias)


class StreamedTextEncoder:
    """Answers as DiffSynth's text encoder of the `family` does to text, by its last hidden state.

    `config` is the language model's part of the encoder's. Give it the embedding table and the
    last norm (`set_outer`) and every layer (`add_packed`) before the first prompt. It may share
    a `streamer`, and so its slots; slots of its own are given back after each pass. Only with a
    `vision` tower, which has the same `streamer`, does it see pictures.
    """

    def __init__(
        self,
        config: Any,
        device: Device,
        dtype: torch.dtype,
        *,
        storage: Storage,
        streamer: Streamer | None = None,
        family: TextFamily = QWEN25,
    ) -> None:
        config = copy.deepcopy(config)
        config._attn_implementation = "sdpa"  # noqa: SLF001 - as the whole model would choose
        self.geometry = TextGeometry.of(config)
        self.layout = text_layout(self.geometry, dtype, storage, family)
        self.passes: list[Pass] = []
        self.vision: StreamedVisionTower | None = None
        self.device = device
        self.streamer = Streamer(device) if streamer is None else streamer
        self._dtype = dtype
        self._shared = streamer is not None
        self._small: dict[int, dict[str, Tensor]] = {}
        self._table: Tensor | StoredTable = torch.empty(0)
        self._last_norm = family.last_norm
        parts = importlib.import_module(family.module)
        self._rotary = getattr(parts, family.rotary)(config).to(device.torch)
        with torch.device("meta"):
            self._layer = getattr(parts, family.layer)(config, 0).eval()
            self.norm = getattr(parts, family.norm)(config.hidden_size, eps=config.rms_norm_eps)
        # Its name in older and in newer versions of transformers.
        names = inspect.signature(self._layer.forward).parameters
        self._cache_name = next(n for n in names if n == "cache" or n.startswith("past_key"))
        self._linears = {piece.name: _Streamed() for piece in self.layout.pieces}
        for name, linear in self._linears.items():
            self._layer.set_submodule(name, linear)

    def set_outer(self, table: Tensor | StoredTable, norm: Tensor) -> None:
        """Take the embedding table [words, width], which stays where it is, and the last norm."""
        self._table = table
        self.norm.weight = _parameter(norm.to(self.device.torch, self._dtype))

    @torch.no_grad()
    def add_packed(self, index: int, packed: Packed, *, resident: bool = False) -> None:
        """Place layer `index`, as `layout.pack` made it."""
        self.streamer.add(("text", index), packed.flat, resident=resident)
        self._small[index] = {k: v.to(self.device.torch) for k, v in packed.small.items()}

    @classmethod
    def from_module(
        cls,
        encoder: Any,
        device: Device,
        dtype: torch.dtype,
        *,
        storage: Storage,
        resident: bool = False,
        streamer: Streamer | None = None,
        family: TextFamily = QWEN25,
    ) -> StreamedTextEncoder:
        """Build it from a whole encoder, a network of transformers' with a language model."""
        model = encoder.model.language_model
        config = encoder.config.text_config
        made = cls(config, device, dtype, storage=storage, streamer=streamer, family=family)
        made.set_outer(model.embed_tokens.weight.detach(), model.norm.weight.detach())
        for index, layer in enumerate(model.layers):
            packed = made.layout.pack(layer.state_dict(), device.torch)
            made.add_packed(index, packed, resident=resident)
        return made

    def move(self, device: torch.device) -> None:
        """Have what stays on the device there: in main memory, or on its own device again."""
        for small in self._small.values():
            for name, tensor in small.items():
                small[name] = tensor.to(device)
        for linear in self._linears.values():
            linear.bias = linear.scale = None
        for name in self.layout.normed:  # A visit gives them the weights that it needs.
            self._layer.get_submodule(name).weight = None
        self.norm.weight = _parameter(self.norm.weight.detach().to(device))
        move(self._rotary, device)
        self.streamer.drop_slots()

    @property
    def host_bytes(self) -> int:
        """How much main memory the weights take, the transformer's included if it shares these."""
        return self.streamer.host_bytes + (0 if self.vision is None else self.vision.outer_bytes)

    @property
    def small_bytes(self) -> int:
        """Bytes of the device's memory that are taken all the time."""
        return sum(t.nbytes for small in self._small.values() for t in small.values())

    @property
    def scratch_bytes(self) -> int:
        """Size of the widest layer, widened."""
        widest = max(piece.rows * piece.columns for piece in self.layout.pieces)
        return widest * self._dtype.itemsize if self.layout.quantized else 0

    def working_bytes(self, tokens: int, pictures: int = 0) -> int:
        """Estimate what a pass takes, slots of its own included.

        `tokens` are those of all prompts together without `pictures`, which each of two prompts has
        for itself.
        """
        slots = 0 if self._shared else 2 * self.layout.size
        seen = pictures * self.layout.family.vision.tokens
        hidden = (tokens + 2 * seen) * self.geometry.dim * self._dtype.itemsize
        working = self.scratch_bytes + _PEAK * hidden
        if self.vision is not None and pictures:
            # The tower works before the layers do.
            slots = max(slots, 0 if self._shared else 2 * self.vision.block_bytes)
            working = max(working, self.vision.working_bytes(seen))
        return slots + working

    @property
    def order(self) -> list[Hashable]:
        """The streamer's keys in the order of a pass."""
        return [("text", index) for index in range(self.geometry.layers)]

    @torch.no_grad()
    def encode(
        self,
        prompts: Sequence[Tensor],
        then: Sequence[Hashable] = (),
        places: Sequence[Tensor] | None = None,
        inserted: Sequence[Insertion] = (),
    ) -> list[Tensor]:
        """Return the last hidden state [tokens, width] of each prompt's ids [tokens].

        `places` are the tokens' positions [tokens], or [3, tokens] on three axes, where they are
        not one after the other. `inserted` has one for each prompt, or is empty. `then` names what
        is visited next, if the streamer is shared: it is copied meanwhile.
        """
        started = time.perf_counter()
        states = [self.embedded(ids) for ids in prompts]
        for state, pictures in zip(states, inserted, strict=bool(inserted)):
            insert(state, pictures)
        if places is None:
            places = [torch.arange(len(ids)) for ids in prompts]
        streamed = [key for key in self.order if not self.streamer.is_resident(key)]
        self.through(states, places, then, inserted=inserted)
        states = [(self.norm(state) if self._last_norm else state)[0] for state in states]
        if self._shared:
            self.streamer.begin(then or self.order)
            self.device.synchronise()
        else:
            self.streamer.drop_slots()
        self.passes[:] = [
            Pass(
                sum(len(ids) for ids in prompts),
                len(prompts),
                time.perf_counter() - started,
                len(streamed) * self.layout.size,
            )
        ]
        return states

    @torch.no_grad()
    def through(
        self,
        states: list[Tensor],
        places: Sequence[Tensor],
        then: Sequence[Hashable] = (),
        caches: Sequence[Any] = (),
        inserted: Sequence[Insertion] = (),
        mask: Tensor | None = None,
    ) -> None:
        """Take `states` [1, tokens, width] through all layers, each in its place in the list.

        `places` and `inserted` (what of pictures is added between layers) are as in `encode`.
        `caches` has for each layer what keeps keys and values, by transformers' protocol; then
        `states` has one prompt, whose tokens see what is kept too, or of it what `mask` [1, 1,
        tokens, kept] says.
        """
        # Text has the same position on all three axes.
        ropes = [
            self._rotary(state, at.to(state.device).view(-1, 1, len(state[0])).expand(3, 1, -1))
            for state, at in zip(states, places, strict=True)
        ]
        widest = self.scratch_bytes // self._dtype.itemsize
        scratch = torch.empty(widest, dtype=self._dtype, device=self.device.torch)
        self.streamer.begin([*self.order, *then])
        for index in range(self.geometry.layers):
            options = {self._cache_name: caches[index]} if caches else {}
            with self.streamer.visit(("text", index)) as flat:
                self._bind(flat, self._small[index], scratch)
                for row, rope in enumerate(ropes):
                    # One at a time: the former state is released at once.
                    states[row] = self._layer(
                        states[row], attention_mask=mask, position_embeddings=rope, **options
                    )
                    if inserted:
                        insert(states[row], inserted[row], index + 1)
        for linear in self._linears.values():
            linear.stored = linear.scratch = None

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        then: Sequence[Hashable] = (),
        **_: Any,
    ) -> tuple[Tensor]:
        """Stand in for `QwenImageTextEncoder`: ids and mask [prompts, tokens].

        The mask is 0 for what is not read: what fills up the shorter ones, and what was cut out,
        whose positions stay free. States are right-padded.
        """
        places = [mask.nonzero()[:, 0].cpu() for mask in attention_mask]
        rows = [ids.cpu()[at] for ids, at in zip(input_ids, places, strict=True)]
        return (nn.utils.rnn.pad_sequence(self.encode(rows, then, places), batch_first=True),)

    def embedded(self, ids: Tensor) -> Tensor:
        """Return the rows [1, tokens, width] of the embedding table that `ids` [tokens] name."""
        table = self._table
        if isinstance(table, StoredTable):
            rows = table.rows(ids)
        else:
            rows = functional.embedding(ids.to(table.device), table)
        return rows[None].to(self.device.torch, self._dtype)

    def _bind(self, flat: Tensor, small: Mapping[str, Tensor], scratch: Tensor) -> None:
        views = self.layout.matrices(self.layout.stored(flat))
        for name, linear in self._linears.items():
            linear.stored = views[name]
            linear.bias = small.get(f"{name}.bias")
            linear.scale = small.get(f"{name}.scale")
            linear.scratch = scratch
        for name in self.layout.normed:
            self._layer.get_submodule(name).weight = _parameter(small[f"{name}.weight"])


def insert(state: Tensor, pictures: Insertion, part: int = 0) -> None:
    """Set the rows of pictures in a prompt's [1, tokens, width], or add a later `part` to them."""
    width = state.shape[-1]
    values = pictures.states[:, part * width : (part + 1) * width]
    if values.shape[1]:
        rows = pictures.rows.to(state.device)
        values = values.to(state.device, state.dtype)
        state[0, rows] = state[0, rows] + values if part else values


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
