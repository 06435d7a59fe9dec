"""Scenes from renderer processes, and their pixels or latents on the training device."""

from __future__ import annotations

import mmap
import multiprocessing
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from bot.lab.tiny.train.flow import caption_ids, fits
from bot.lab.tiny.train.scenes import draw_scene

SQUARE: Final = (256, 256)
SIZES: Final = (SQUARE, (384, 256), (256, 384))
"""Sizes of the tiny model in bot/catalogue/models.py; 336 x 256 lies between two of these."""
CHUNK: Final = 64
_SLOTS_PER_WORKER: Final = 4
_LARGEST: Final = max(width * height for width, height in SIZES) * 3


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some scenes of one size: `pixels` uint8 [scenes, height, width, 3], tokens, which count."""

    size: tuple[int, int]
    pixels: Tensor
    ids: Tensor
    counts: Tensor


class Renderers:
    """Processes that draw scenes without end into shared memory. Start before CUDA is touched."""

    def __init__(self, seed: str, workers: int, odd_share: float, style: str = "") -> None:
        context = multiprocessing.get_context("fork")
        slots = workers * _SLOTS_PER_WORKER
        self._memory = mmap.mmap(-1, slots * CHUNK * _LARGEST)
        self._free: Any = context.SimpleQueue()
        self._full: Any = context.Queue()
        for slot in range(slots):
            self._free.put(slot)
        self._processes = [
            context.Process(
                target=_render,
                args=(self._memory, self._free, self._full, f"{seed} {index}", odd_share, style),
                daemon=True,
            )
            for index in range(workers)
        ]
        for process in self._processes:
            process.start()

    def ready(self, most: int, device: torch.device) -> Iterator[Chunk]:
        """Yield up to `most` chunks that are there by now."""
        for _ in range(most):
            if self._full.empty():
                return
            yield self.wait(device)

    def wait(self, device: torch.device) -> Chunk:
        """Return the next chunk, on `device`."""
        slot, size, ids, counts = self._full.get()
        width, height = size
        shared = np.frombuffer(self._memory, np.uint8, *_place(slot, size))
        pixels = torch.from_numpy(shared.reshape(CHUNK, height, width, 3)).to(device, copy=True)
        self._free.put(slot)
        ids, counts = torch.from_numpy(ids).to(device), torch.from_numpy(counts).to(device)
        return Chunk(size, pixels, ids, counts)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.join()


def _place(slot: int, size: tuple[int, int]) -> tuple[int, int]:
    return CHUNK * size[0] * size[1] * 3, slot * CHUNK * _LARGEST


def _render(
    memory: mmap.mmap, free: Any, full: Any, seed: str, odd_share: float, style: str
) -> None:
    rng = random.Random(seed)  # noqa: S311 - pictures, not secrets
    while True:
        slot = free.get()
        size = rng.choice(SIZES[1:]) if rng.random() < odd_share else SQUARE
        count, start = _place(slot, size)
        pixels = np.frombuffer(memory, np.uint8, count, start)
        pixels = pixels.reshape(CHUNK, size[1], size[0], 3)
        captions: list[str] = []
        while len(captions) < CHUNK:
            scene = draw_scene(rng, *size, style=style)
            if fits(scene.caption):
                pixels[len(captions)] = np.asarray(scene.picture)
                captions.append(scene.caption)
        ids, counts = caption_ids(captions)
        full.put((slot, size, ids.short().numpy(), counts.numpy()))


def to_network(pixels: Tensor) -> Tensor:
    """Return uint8 [scenes, height, width, 3] as [scenes, 3, height, width] from -1 to 1."""
    return pixels.permute(0, 3, 1, 2).float() * (2 / 255) - 1


@dataclass
class Pool:
    """Scenes of one size on the device, drawn from at random; once full, no more are taken.

    `values` holds whatever the scenes were turned into: pixels or latents.
    """

    limit: int
    device: torch.device
    count: int = 0
    values: Tensor = field(default_factory=lambda: torch.empty(0))
    ids: Tensor = field(default_factory=lambda: torch.empty(0))
    counts: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def full(self) -> bool:
        """Whether there is no room."""
        return self.count >= self.limit

    def add(self, values: Tensor, ids: Tensor, counts: Tensor) -> None:
        """Put some more scenes in; those beyond the limit are left out."""
        room = self.limit - self.count
        values, ids, counts = values[:room], ids[:room], counts[:room]
        if not self.count:
            for name, one in (("values", values), ("ids", ids), ("counts", counts)):
                empty = torch.empty(self.limit, *one.shape[1:], dtype=one.dtype, device=self.device)
                setattr(self, name, empty)
        end = self.count + len(values)
        self.values[self.count : end] = values
        self.ids[self.count : end] = ids
        self.counts[self.count : end] = counts
        self.count = end

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return `count` random scenes' values, ids and which tokens count."""
        rows = torch.randint(self.count, (count,), device=self.device, generator=generator)
        return self.values[rows], self.ids[rows].long(), self.counts[rows]
