"""Lessons from renderer processes: scenes to draw and to talk about, and changes of scenes."""

from __future__ import annotations

import mmap
import multiprocessing
import random
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bot.lab.tiny.train.data import SIZES, SQUARE
from bot.lab.tiny.train.flow import caption_ids, fits
from bot.lab.tiny.train.joint.prompts import exchange_ids, instruction_ids
from bot.lab.tiny.train.scenes import language
from bot.lab.tiny.train.scenes.captions import caption
from bot.lab.tiny.train.scenes.edits import draw_change, in_any_colours
from bot.lab.tiny.train.scenes.instructions import instruction
from bot.lab.tiny.train.scenes.plan import draw_plan
from bot.lab.tiny.train.scenes.scene import paint

KINDS: Final = {"scene": 30, "odd": 4, "edit": 54, "pair": 12}
"""Kinds of lessons and how many of a hundred chunks have each.

`scene`: a square scene with its caption and exchanges, with and without the picture. `odd`: a scene
of another size and its caption. `edit` and `pair`: a change of one picture, and of two.
"""
_ANY_COLOURS: Final = 0.7
"""Share of the changes of a background whose parts have colours without names."""
_OFTEN: Final = 0.6
"""Share of the changes of one picture that are of the kind which a plan wants often."""
_SLOTS_PER_WORKER: Final = 3
_SIDE: Final = 256
_LESSON: Final = 3 * _SIDE * _SIDE * 3
"""Bytes of a lesson's pictures, at most."""

Arrays = dict[str, NDArray[Any]]


class LessonRenderers:
    """Processes that draw lessons without end into shared memory. Start before CUDA is touched."""

    def __init__(
        self,
        seed: str,
        workers: int,
        chunk: int,
        kinds: Mapping[str, int] = KINDS,
        often: str = "",
    ) -> None:
        context = multiprocessing.get_context("fork")
        slots = workers * _SLOTS_PER_WORKER
        self._slot = chunk * _LESSON
        self._memory = mmap.mmap(-1, slots * self._slot)
        self._free: Any = context.SimpleQueue()
        self._full: Any = context.Queue()
        for slot in range(slots):
            self._free.put(slot)
        self._processes = [
            context.Process(
                target=_render,
                args=(
                    *(self._memory, self._free, self._full),
                    *(f"{seed} {index}", chunk, kinds, often),
                ),
                daemon=True,
            )
            for index in range(workers)
        ]
        for process in self._processes:
            process.start()

    def ready(self, most: int, device: torch.device) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield up to `most` chunks that are there by now."""
        for _ in range(most):
            if self._full.empty():
                return
            yield self.wait(device)

    def wait(self, device: torch.device) -> tuple[str, dict[str, Tensor]]:
        """Return the next chunk's kind and tensors, on `device`.

        `pixels` are uint8 [lessons, pictures, height, width, 3]; a change's target is the last.
        """
        kind, slot, shape, arrays = self._full.get()
        count = int(np.prod(shape))
        shared = np.frombuffer(self._memory, np.uint8, count, slot * self._slot)
        pixels = torch.from_numpy(shared.reshape(shape)).to(device, copy=True)
        self._free.put(slot)
        chunk = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        return kind, {"pixels": pixels, **chunk}

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.join()


def _render(
    memory: mmap.mmap,
    free: Any,
    full: Any,
    seed: str,
    chunk: int,
    kinds: Mapping[str, int],
    often: str,
) -> None:
    rng = random.Random(seed)  # noqa: S311 - pictures, not secrets
    while True:
        slot = free.get()
        kind = rng.choices(tuple(kinds), tuple(kinds.values()))[0]
        if kind in {"scene", "odd"}:
            size = SQUARE if kind == "scene" else rng.choice(SIZES[1:])
            pictures, arrays = _scenes(rng, chunk, size, talks=kind == "scene")
        else:
            pictures, arrays = _changes(rng, chunk, 1 if kind == "edit" else 2, often)
        shape = (chunk, len(pictures[0]), *np.asarray(pictures[0][0]).shape)
        pixels = np.frombuffer(memory, np.uint8, int(np.prod(shape)), slot * chunk * _LESSON)
        pixels = pixels.reshape(shape)
        for row, some in zip(pixels, pictures, strict=True):
            for place, picture in zip(row, some, strict=True):
                place[...] = np.asarray(picture)
        full.put((kind, slot, shape, arrays))


def _scenes(
    rng: random.Random, chunk: int, size: tuple[int, int], *, talks: bool
) -> tuple[list[list[Image.Image]], Arrays]:
    pictures: list[list[Image.Image]] = []
    captions: list[str] = []
    about: list[tuple[NDArray[np.int16], int]] = []
    alone: list[tuple[NDArray[np.int16], int]] = []
    while len(pictures) < chunk:
        plan = draw_plan(rng)
        said = caption(rng, plan)
        seen = exchange_ids(language.of_picture(rng, plan), pictures=1)
        text = exchange_ids(language.of_text(rng), pictures=0)
        if not fits(said) or seen is None or text is None:
            continue
        pictures.append([paint(rng, plan, *size)])
        captions.append(said)
        about.append(seen)
        alone.append(text)
    ids, counts = caption_ids(captions)
    arrays: Arrays = {"ids": ids.short().numpy(), "counts": counts.numpy()}
    if talks:
        for name, exchanges in (("about", about), ("alone", alone)):
            arrays[name] = np.stack([one for one, _ in exchanges])
            arrays[f"{name} from"] = np.asarray([start for _, start in exchanges], np.int16)
    return pictures, arrays


def _changes(
    rng: random.Random, chunk: int, sources: int, often: str
) -> tuple[list[list[Image.Image]], Arrays]:
    pictures: list[list[Image.Image]] = []
    found: list[NDArray[np.int16]] = []
    while len(pictures) < chunk:
        named = often if sources == 1 and rng.random() < _OFTEN else ""
        change = draw_change(rng, kind=named or None, pictures=sources)
        if change.kind == "background" and rng.random() < _ANY_COLOURS:
            change = in_any_colours(rng, change)
        ids = instruction_ids(instruction(rng, change), sources)
        if ids is not None:
            before, after = change.pictures()
            pictures.append([*before, after])
            found.append(ids)
    return pictures, {"ids": np.stack(found)}


class LessonPool:
    """Lessons of one kind and size on the device, drawn from at random; once full, it stays."""

    def __init__(self, limit: int, device: torch.device) -> None:
        self.limit = limit
        self.count = 0
        self._device = device
        self._kept: dict[str, Tensor] = {}

    @property
    def full(self) -> bool:
        """Whether there is no room."""
        return self.count >= self.limit

    def add(self, lessons: Mapping[str, Tensor]) -> None:
        """Put some more in, [lessons, ...] by name; those beyond the limit are left out."""
        room = self.limit - self.count
        for name, value in lessons.items():
            if name not in self._kept:
                shape = self.limit, *value.shape[1:]
                self._kept[name] = torch.empty(shape, dtype=value.dtype, device=self._device)
            some = value[:room]
            self._kept[name][self.count : self.count + len(some)] = some
        self.count += min(room, *map(len, lessons.values()))

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return `count` random lessons, [count, ...] by name."""
        rows = torch.randint(self.count, (count,), device=self._device, generator=generator)
        return {name: value[rows] for name, value in self._kept.items()}
