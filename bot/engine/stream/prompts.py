"""Embeddings of prompts and of the pictures that they speak of, and a memory of those before."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

import torch
from diffsynth.pipelines.qwen_image import QwenImageUnit_PromptEmbedder
from torch import Tensor

from bot.engine.stream.prompts_edit import read_edit
from bot.engine.stream.vision_kind import VisionKind
from bot.engine.stream.vision_picture import SeenPicture, VisionPicture
from bot.engine.stream.writing import StreamedWriter

_MEMORY_BYTES: Final = 128 * 2**20

Read = Callable[[Any, Any, Sequence[str]], list[Tensor]]
"""(tokenizer, encoder, prompts) -> each prompt's [tokens, width], by the template of a model."""
ReadEdit = Callable[..., list[Tensor]]
"""The same of (tokenizer, encoder, prompts, pictures, then): see `read_edit`."""
Places = Callable[[Any, int], tuple[int, ...]]
"""(tokenizer, number of pictures) -> how many of a prompt's tokens stand in front of each."""


def behind_target(_tokenizer: Any, _pictures: int) -> tuple[int, ...]:
    """Return no places: pictures follow the one that is drawn, as with Qwen-Image-Edit."""
    return ()


class PromptMemory:
    """The embeddings used last, in main memory, up to `limit` bytes.

    What is called a prompt may be one with pictures, or a picture alone.
    """

    def __init__(self, limit: int = _MEMORY_BYTES) -> None:
        self.limit = limit
        self.bytes = 0
        self._kept: OrderedDict[tuple[str, Hashable], Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, model: str, prompt: Hashable) -> Tensor | None:
        """Return what `put` was given, and make it the most recently used."""
        found = self._kept.get((model, prompt))
        if found is not None:
            self._kept.move_to_end((model, prompt))
        return found

    def put(self, model: str, prompt: Hashable, embedding: Tensor) -> None:
        """Keep it and forget those unused for longest; one larger than the limit isn't kept."""
        old = self._kept.pop((model, prompt), None)
        self.bytes -= 0 if old is None else old.nbytes
        if embedding.nbytes > self.limit:
            return
        self._kept[model, prompt] = embedding
        self.bytes += embedding.nbytes
        while self.bytes > self.limit:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= oldest.nbytes

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self.bytes = 0


def read_qwen_image(tokenizer: Any, encoder: Any, prompts: Sequence[str]) -> list[Tensor]:
    """Return each prompt's [tokens, width], as `QwenImagePipeline` does."""
    pipe: Any = SimpleNamespace(
        tokenizer=tokenizer, text_encoder=encoder, device=torch.device("cpu")
    )
    return QwenImageUnit_PromptEmbedder().encode_prompt(pipe, prompts)


class PromptEmbedder:
    """Embeds prompts as `read` does, and `read_edit` those with pictures: Qwen-Image's ways.

    `places` tells where the transformer has the pictures' latents among a prompt's tokens.

    `encoder` is called as DiffSynth's text encoder is; `model` names it and its precision, since
    the memory may outlive it.
    """

    def __init__(
        self,
        tokenizer: Any,
        encoder: Any,
        *,
        model: str,
        memory: PromptMemory | None = None,
        read: Read = read_qwen_image,
        read_edit: ReadEdit = read_edit,
        places: Places = behind_target,
    ) -> None:
        self.memory = PromptMemory() if memory is None else memory
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.writer: StreamedWriter | None = None
        """What writes with the encoder's language model, once it was asked for."""
        self._model = model
        self._read = read
        self._read_edit = read_edit
        self._places = places

    def embed(
        self,
        prompts: Sequence[str],
        then: Sequence[Hashable] = (),
        pictures: Sequence[VisionPicture] = (),
    ) -> list[Tensor]:
        """Return each prompt's [tokens, width], in main memory; don't write into them.

        All prompts that are not remembered go through the encoder together, and see all `pictures`;
        of these, every one that is not remembered went through the vision tower once. `then` is for
        `StreamedTextEncoder.encode`.

        Raises `ValueError` for pictures where the encoder has no vision tower.
        """
        content = tuple(picture.digest for picture in pictures)
        keys = {prompt: (prompt, content) if content else prompt for prompt in prompts}
        found = {prompt: self.memory.get(self._model, key) for prompt, key in keys.items()}
        missing = [prompt for prompt, embedding in found.items() if embedding is None]
        if missing:
            if pictures:
                seen = self.seen(pictures)
                embeddings = self._read_edit(self.tokenizer, self.encoder, missing, seen, then)
            else:
                encoder = partial(self.encoder, then=then) if then else self.encoder
                embeddings = self._read(self.tokenizer, encoder, missing)
            for prompt, embedding in zip(missing, embeddings, strict=True):
                # A copy of its own, since these are views of the whole batch.
                found[prompt] = kept = embedding.to("cpu", copy=True)
                self.memory.put(self._model, keys[prompt], kept)
        return [embedding for prompt in prompts if (embedding := found[prompt]) is not None]

    @property
    def vision_kind(self) -> VisionKind:
        """How the encoder's vision tower takes pictures."""
        return self.encoder.layout.family.vision

    def places(self, pictures: int) -> tuple[int, ...]:
        """Return how many tokens of a prompt stand in front of each of its pictures' latents.

        Empty where these follow the picture that is drawn.
        """
        return self._places(self.tokenizer, pictures)

    def seen(self, pictures: Sequence[VisionPicture]) -> list[SeenPicture]:
        """Return what the vision tower makes of pictures, or made of them before.

        Raises `ValueError` where the encoder has none.
        """
        tower = getattr(self.encoder, "vision", None)
        if tower is None:
            raise ValueError("this text encoder has no vision tower")
        by_digest = {picture.digest: picture for picture in pictures}
        found = {key: self.memory.get(self._model, (None, key)) for key in by_digest}
        missing = [by_digest[key] for key, states in found.items() if states is None]
        for picture, states in zip(missing, tower.encode(missing, self.encoder.order), strict=True):
            found[picture.digest] = kept = states.clone()
            self.memory.put(self._model, (None, picture.digest), kept)
        return [
            SeenPicture(picture.rows, picture.columns, states)
            for picture in pictures
            if (states := found[picture.digest]) is not None
        ]
