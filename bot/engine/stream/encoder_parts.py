"""Parts of a text encoder's files that drawing from words alone does without, loaded for others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from bot.engine.files.stages import LOADING, LOADING_HEAD
from bot.engine.stream.cache import Checkpoint, Progress
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.items import Use
from bot.engine.stream.parts import HEAD, HEAD_WEIGHT, TABLE, TABLE_WEIGHT, key_of, text_items
from bot.engine.stream.published import Sources
from bot.engine.stream.writing import StreamedWriter

PART: Final = "text encoder"


def checkpoint_of(
    encoder: StreamedTextEncoder, sources: Sources, cache: Path | None, wanted: str
) -> Checkpoint:
    """Return the items of the kind `wanted`, from and to the cache that has the language model."""
    layout = encoder.layout
    items = [
        replace(item, use=Use.LOADED if key_of(item.key)[0] == wanted else Use.KEPT)
        for item in text_items(
            sources, encoder.geometry, layout.dtype, layout.storage, layout.family
        )
    ]
    return Checkpoint(PART, sources, items, cache if layout.storage.quantized else None)


def told_as(stage: str, progress: Progress) -> Progress:
    """Return a `Progress` that says `stage` where a load would name the text encoder."""

    def told(said: str, share: float | None) -> None:
        progress(stage if said == LOADING[PART] else said, share)

    return told


def load_writer(
    encoder: StreamedTextEncoder,
    sources: Sources,
    cache: Path | None,
    progress: Progress,
    *,
    room: Callable[[int], object] = lambda _size: None,
) -> StreamedWriter:
    """Make a text encoder's language model write, by the head that its files have.

    Where they have none, the embedding table is the head. It comes into main memory; `room` is told
    how many bytes. Raises `EngineError` (`LOAD_FAILED`) where the files are damaged.
    """
    own = HEAD_WEIGHT in sources.names
    checkpoint = checkpoint_of(encoder, sources, cache, HEAD if own else TABLE)
    room(checkpoint.size)
    name = "weight" if own else TABLE_WEIGHT
    ((_, packed),) = checkpoint.load(encoder.device.torch, told_as(LOADING_HEAD, progress))
    return StreamedWriter(encoder, packed.small[name])
