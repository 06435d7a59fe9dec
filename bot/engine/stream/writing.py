"""Text that a text encoder's language model writes: a token at a time, from text and pictures.

While it writes, the language head and as many layers as there is room for are on the device; the
others come through the streamer once a token. Keys and values of earlier tokens are kept, so that
only the first pass sees more than one token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from bot.engine.protocol import Ending
from bot.engine.stream.encoder import Insertion, StreamedTextEncoder, insert
from bot.engine.stream.one_token import OneToken
from bot.engine.stream.sampling import Choose, likeliest

_HEAD: Final = ("head", 0)
_GRAPH: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be answered: token `ids` [tokens] at `places` [3, tokens], with its pictures."""

    ids: Tensor
    places: Tensor
    pictures: Insertion | None = None


@dataclass(frozen=True, slots=True)
class AnswerBounds:
    """Where an answer ends: at one of the ids `stops`, or after so many tokens or seconds.

    No seconds: only the others bound it. The seconds are those of writing, from the first pass on.
    """

    stops: Collection[int]
    tokens: int
    seconds: float | None = None


class StreamedWriter:
    """Writes as transformers' `generate` does, with the layers of `encoder` and a language head.

    `head` [words, width] is the head's weight, in main memory; where a model has none of its own it
    is the embedding table. It is held in the encoder's type, which shares its streamer.
    """

    def __init__(self, encoder: StreamedTextEncoder, head: Tensor) -> None:
        dtype = encoder.layout.dtype
        self.encoder = encoder
        self.words = len(head)
        flat = head.detach().to(dtype).contiguous().view(torch.uint8).flatten()
        encoder.streamer.add(_HEAD, flat, resident=False)
        self.head_bytes = flat.numel()
        self._dtype = dtype

    def working_bytes(self, question: int, most: int) -> int:
        """Estimate what an answer takes besides layers that stay on the device, in bytes.

        `question` are its tokens, those of pictures among them; `most` is those of the answer.
        """
        encoder = self.encoder
        kept = 2 * encoder.geometry.key_value_dim * self._dtype.itemsize * encoder.geometry.layers
        logits = 3 * 4 * self.words
        # A graph's memory is its own: a layer's, widened, and that of cuBLAS on another stream.
        graph = encoder.scratch_bytes + _GRAPH if encoder.device.torch.type == "cuda" else 0
        # `working_bytes` has the slots of layers that stream; the vision tower has left by then.
        working = self.head_bytes + encoder.working_bytes(question) + graph + logits
        return working + kept * (question + most)

    def bring(self, room: int | None, working: int) -> None:
        """Have the head and layers on the device, within `room` bytes; None: all of them.

        `working` bytes of it are left free, as `working_bytes` says. Where the device has less than
        the budget says, fewer layers come.
        """
        encoder = self.encoder
        streamer, layers = encoder.streamer, encoder.geometry.layers
        count = layers
        if room is not None:
            count = max(0, min(layers, (room - working) // encoder.layout.size))
        streamer.drop_slots()
        streamer.promote(_HEAD)
        with suppress(torch.OutOfMemoryError):
            for key in encoder.order[:count]:
                streamer.promote(key)
        encoder.device.synchronise()

    def rest(self) -> None:
        """Leave the device: all of it is in main memory too."""
        streamer = self.encoder.streamer
        for key in (_HEAD, *self.encoder.order):
            streamer.evict(key)
        streamer.drop_slots()
        self.encoder.device.release_cache()

    @torch.no_grad()
    def write(
        self,
        question: Question,
        bounds: AnswerBounds,
        choose: Choose = likeliest,
        on_token: Callable[[int], object] = lambda _token: None,
    ) -> Ending:
        """Answer a question; `on_token` is told each id, and may raise to end it.

        `bring` comes before, `rest` behind. Returns why the answer ended.
        """
        streamer = self.encoder.streamer
        there = all(map(streamer.is_resident, (_HEAD, *self.encoder.order)))
        card = self.encoder.device.torch.type == "cuda"
        length = len(question.ids) + bounds.tokens
        one = OneToken(self.encoder, length, self._logits, replayed=card and there)
        try:
            return self._write(question, bounds, choose, on_token, one)
        finally:
            one.close()

    def _write(
        self,
        question: Question,
        bounds: AnswerBounds,
        choose: Choose,
        on_token: Callable[[int], object],
        one: OneToken,
    ) -> Ending:
        encoder = self.encoder
        state, place = encoder.embedded(question.ids), int(question.places.max()) + 1
        if question.pictures is not None:
            insert(state, question.pictures)
        started = time.monotonic()
        states = [state]
        inserted = () if question.pictures is None else [question.pictures]
        encoder.through(states, [question.places], caches=one.caches, inserted=inserted)
        logits = self._logits(states[0][:, -1])
        for written in range(bounds.tokens):
            token = choose(logits)
            if token in bounds.stops:
                return Ending.STOPPED
            on_token(token)
            if bounds.seconds is not None and time.monotonic() - started >= bounds.seconds:
                return Ending.SECONDS
            if written < bounds.tokens - 1:
                embedded = encoder.embedded(torch.tensor([token]))
                logits = one(embedded, len(question.ids) + written, place + written)
        return Ending.TOKENS

    def _logits(self, state: Tensor) -> Tensor:
        """Return the logits [words] of what follows `state` [1, width], in float32."""
        with self.encoder.streamer.visit(_HEAD) as flat:
            weight = flat[: self.head_bytes].view(self._dtype).view(self.words, -1)
            return functional.linear(self.encoder.norm(state), weight)[0].float()
