"""A pass of one token behind others: on tensors that stay, so that a card can replay it.

A pass is some six hundred small pieces of work, which Python takes longer to launch than a card to
do. Recorded as a CUDA graph they are launched at once, and give the same bits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bot.engine.stream.encoder import StreamedTextEncoder

log = logging.getLogger(__name__)


class KeptValues:
    """Keys and values of one layer, as transformers' attention hands them to a cache.

    A pass of several tokens is answered with those that are there, a pass of one with room for all
    of `length`, whose mask says which count: so its work is the same for each token.
    """

    def __init__(self, length: int, index: Tensor) -> None:
        self._length = length
        self._index = index
        self._both: tuple[Tensor, Tensor] | None = None

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keep `keys` and `values` [1, heads, tokens, width]; return all that there are."""
        count = keys.shape[2]
        if self._both is None:
            room = (*keys.shape[:2], self._length, keys.shape[3])
            self._both = keys.new_zeros(room), values.new_zeros(room)  # masked, but never NaN
            for kept, fresh in zip(self._both, (keys, values), strict=True):
                kept[:, :, :count] = fresh
            return keys, values
        for kept, fresh in zip(self._both, (keys, values), strict=True):
            kept.index_copy_(2, self._index, fresh)
        return self._both


class OneToken:
    """Takes a token through all layers of `encoder`, to what `finish` makes of its state.

    `length` tokens have room. With `replayed` the second pass and all later ones are a graph, where
    the card takes it; for that every layer has to stay on the device until `close`.
    """

    def __init__(
        self,
        encoder: StreamedTextEncoder,
        length: int,
        finish: Callable[[Tensor], Tensor],
        *,
        replayed: bool,
    ) -> None:
        device = encoder.device.torch
        self._encoder = encoder
        self._finish = finish
        self._replayed = replayed
        self._index, self._place = (torch.zeros(1, dtype=torch.long, device=device) for _ in "12")
        self._slots = torch.arange(length, device=device)
        self._state: Tensor | None = None
        self._graph: Any = None
        self._result: Tensor | None = None
        self.caches: Sequence[KeptValues] = [
            KeptValues(length, self._index) for _ in range(encoder.geometry.layers)
        ]

    def __call__(self, state: Tensor, index: int, place: int) -> Tensor:
        """Return what comes of the token `state` [1, 1, width], the `index`-th, at `place`."""
        self._index.fill_(index)
        self._place.fill_(place)
        if self._state is None:
            self._state = state.clone()
            return self._pass()
        self._state.copy_(state)
        if not self._replayed:
            return self._pass()
        if self._graph is None:
            try:
                self._graph, self._result = self._recorded()
            except Exception as error:  # noqa: BLE001 - drivers fail in countless ways
                log.warning("Texts are written without a CUDA graph, more slowly: %s.", error)
                self._replayed = False
                return self._pass()
        self._graph.replay()
        assert self._result is not None
        return self._result

    def close(self) -> None:
        """Give the graph's memory back."""
        if self._graph is not None:
            self._encoder.device.synchronise()
            self._graph.reset()
        self._graph = self._result = None

    def _pass(self) -> Tensor:
        assert self._state is not None
        mask = (self._slots <= self._index)[None, None, None]
        states = [self._state]
        self._encoder.through(states, [self._place], caches=self.caches, mask=mask)
        return self._finish(states[0][:, -1])

    def _recorded(self) -> tuple[Any, Tensor]:
        device = self._encoder.device.torch
        torch.cuda.synchronize(device)
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
        # Not `torch.cuda.graph`, which collects garbage each time. Other threads may go on.
        with torch.cuda.stream(stream):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                result = self._pass()
            finally:
                graph.capture_end()
        return graph, result
