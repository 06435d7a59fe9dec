"""What runs of training share: the device and its precision, the clock, the VAE's two ways."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bot.lab.tiny.train.data import to_network


class Run:
    """The base of a run, whose `vae` its class makes; nobody but `rank` 0 prints.

    Its clock starts `since`, seconds of `time.perf_counter`: what is forked is forked before.
    """

    vae: Any

    def __init__(
        self, device: str, *, since: float, half: bool, recompiles: int, rank: int = 0
    ) -> None:
        self.rank = rank
        cuda = device == "cuda"
        self.device = torch.device("cuda", rank) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(self.device)
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.allow_tf32 = True
        # One compilation for each number of tokens: kernels for unknown lengths are slower.
        torch._dynamo.config.automatic_dynamic_shapes = False  # noqa: SLF001
        torch._dynamo.config.recompile_limit = recompiles  # noqa: SLF001
        self._half = half
        self._started = since

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started

    def say(self, text: str) -> None:
        """Print a line with the run's seconds."""
        if self.rank == 0:
            print(f"[{self.elapsed:6.1f}] {text}", flush=True)  # noqa: T201 - a command's output

    @contextmanager
    def precision(self) -> Generator[None]:
        """Compute what is within in the run's precision."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            yield

    @torch.no_grad()
    def encoded(self, pixels: Tensor) -> Tensor:
        """Return latents [pictures, 16, height / 8, width / 8] of uint8 pixels, pixels last."""
        pictures = to_network(pixels).to(memory_format=torch.channels_last)
        with self.precision():
            return self.vae.encode(pictures).float()

    @torch.no_grad()
    def decoded(self, latents: Tensor) -> Tensor:
        """Return the pictures of latents, from -1 to 1."""
        with self.precision():
            return self.vae.decode(latents.to(memory_format=torch.channels_last)).float()
