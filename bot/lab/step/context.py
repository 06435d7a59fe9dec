"""Context of the step benchmark's phases: transformers, variants, timing, failures."""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from diffsynth.diffusion import FlowMatchScheduler
from torch import Tensor

from bot.engine.stream.budget import GIB, Work
from bot.engine.stream.denoise import DenoiseInputs, noise
from bot.engine.stream.device import open_device
from bot.engine.stream.layout import Geometry, Precision
from bot.engine.stream.quantize import Matmul
from bot.engine.stream.storage import Storage
from bot.engine.stream.transformer import StreamedDiT
from bot.errors import BotError
from bot.lab.step import parts, random_weights
from bot.lab.step.subject import SUBJECTS, Subject

TEXT_TOKENS: Final = (110, 12)
DTYPE: Final = torch.bfloat16


@dataclass
class Variant:
    """One way to run the step: DiffSynth's (`precision` None) or ours.

    `budget` in bytes, None for everything resident; `matmul` overrides what the probe chose.
    """

    name: str
    precision: Precision | None
    budget: int | None
    compiled: bool
    matmul: Matmul | None = None
    seconds: list[float] = field(default_factory=list[float])
    output: Tensor | None = None
    figures: dict[str, Any] = field(default_factory=dict[str, Any])


def _size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


def _subject(model: str) -> Subject:
    if model not in SUBJECTS:
        raise BotError(f"This benchmark measures {' or '.join(SUBJECTS)}.")
    return SUBJECTS[model]


class Context:
    """Builds steps and runs them; collects `figures`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.cuda: bool = options.device.startswith("cuda")
        self.device = open_device(options.device).torch
        self.subject = subject = _subject(options.model)
        geometry = subject.small if options.small else subject.full
        layers = options.layers or geometry.layers
        self.geometry = Geometry(layers, geometry.dim, geometry.heads)
        self.text = subject.small_text if options.small else subject.text
        tokens = TEXT_TOKENS if subject.guidance != 1.0 else TEXT_TOKENS[:1]
        width, height = _size(options.size)
        sizes = tuple(_size(size) for size in options.references.split(",") if size)
        if sizes and not subject.references:
            raise BotError(
                f"{options.model} draws after no other pictures; leave out --references."
            )
        self.usual = Work(width, height, 1, tokens, sizes)
        self.references = [self.noise(*size, first=100 + n) for n, size in enumerate(sizes)]
        """Latents of the pictures that each one is drawn after."""
        generator = torch.Generator().manual_seed(1)
        self.prompts = [torch.randn(n, self.text, generator=generator) for n in tokens]
        self.figures: dict[str, Any] = {"machine": parts.machine(self.cuda)}
        self.variants = self._variants()
        self.failed = 0
        self.loaded: dict[Storage, StreamedDiT] = {}
        self.exact: Tensor | None = None
        """The prediction in float32, once it is known."""
        self._current: Storage | None = None
        self.stock: Any = None
        self._started = time.monotonic()

    def _variants(self) -> list[Variant]:
        made: list[Variant] = []
        budgets = [int(float(x) * GIB) for x in self.options.budgets.split(",")]
        for compiled in (True, False):
            if self.options.no_compile if compiled else self.options.no_eager:
                continue
            kind = "compiled" if compiled else "eager"
            made.append(Variant(f"DiffSynth bf16 {kind}", None, None, compiled))
            for precision in self.precisions:
                if precision is Precision.FP8_FAST and not compiled and self.cuda:
                    continue  # eight passes a product: nobody should use it
                for budget in (*budgets, None):
                    size = "all resident" if budget is None else f"{budget / GIB:g} GiB"
                    made.append(Variant(f"{precision} {size} {kind}", precision, budget, compiled))
        return made

    @property
    def precisions(self) -> list[Precision]:
        """Ours that are measured."""
        return [Precision(name) for name in self.options.precisions.split(",")]

    @property
    def dit(self) -> StreamedDiT:
        """Our transformer, loaded: that of the variant which was settled last."""
        assert self._current is not None
        return self.loaded[self._current]

    def use(self, storage: Storage) -> None:
        """Take the transformer whose weights are so stored; the blocks of others leave the card."""
        for other, dit in self.loaded.items():
            if other is not storage and dit.resident:
                dit.weights.keep(frozenset(), scratch=False)
        self._current = storage

    def ours(self) -> list[Variant]:
        """Return our variants at the first budget, compiled where possible."""
        compiled = not self.options.no_compile
        ours = [v for v in self.variants if v.precision is not None and v.compiled == compiled]
        return [v for v in ours if v.budget == ours[0].budget]

    def say(self, name: str, figures: Any) -> None:
        """Print figures as they come."""
        print(name, json.dumps(figures), flush=True)  # noqa: T201 - this is a program's output

    def guarded(self, name: str, action: Callable[[], None]) -> None:
        """Run `action` unless it is late; note its failure and go on."""
        elapsed = time.monotonic() - self._started
        late = elapsed > self.options.limit
        self.say(f"{elapsed:4.0f} s: {name}", "left out" if late else "")
        if late:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - the other figures still count
            self.failed += 1
            self.figures.setdefault("failures", {})[name] = repr(error)[:500]
            traceback.print_exc(limit=-4)

    def schedule(self, width: int, height: int) -> Tensor:
        """Return the timesteps of a whole picture."""
        scheduler: Any = FlowMatchScheduler("Qwen-Image")
        tokens = (width // 16) * (height // 16)
        scheduler.set_timesteps(self.options.schedule, dynamic_shift_len=tokens)
        return scheduler.timesteps

    def drawing(self, seed: int) -> DenoiseInputs:
        """Return a request for one usual picture."""
        return DenoiseInputs(
            self.prompts[0],
            self.prompts[1] if len(self.prompts) > 1 else None,
            (seed,),
            self.usual.width,
            self.usual.height,
            steps=self.options.schedule,
            guidance=self.subject.guidance,
            references=tuple(self.references),
        )

    def stepper(self, variant: Variant, size: str = "", pictures: int = 1) -> Callable[[], Tensor]:
        """Return one step of `variant`, ready to run; its output stays on the device."""
        width, height = _size(size or self.options.size)
        latents = self.noise(width, height, pictures)
        timesteps = self.schedule(width, height)
        if variant.precision is None:
            if self.stock is None:
                self.stock = random_weights.random_dit(
                    self.geometry, self.text, self.device, DTYPE, self.subject
                )
            return parts.stock_step(
                self.subject,
                self.stock,
                variant.compiled,
                self.prompts,
                latents.to(self.device),
                timesteps,
                self.references,
            )
        dit = self.settled(variant)
        generation = dit.prepare(
            self.prompts,
            timesteps,
            width=width,
            height=height,
            pictures=pictures,
            references=self.references,
        )
        latents = latents.to(self.device)
        variant.figures |= {"resident": len(dit.resident), "matmul": str(dit.execution.matmul)}
        return lambda: dit.predict(generation, 0, latents, self.subject.guidance)

    def noise(self, width: int, height: int, pictures: int = 1, first: int = 0) -> Tensor:
        """Return the latents that `pictures` begin with; `first` is the first one's seed."""
        seeds = range(first, first + pictures)
        return noise(seeds, width, height, DTYPE, self.subject.latents)

    def settled(self, variant: Variant) -> StreamedDiT:
        """Configure `variant`; blocks that an earlier, larger one kept leave the device."""
        assert variant.precision is not None
        self.use(variant.precision.storage)
        dit = self.dit
        dit.configure(variant.budget, variant.precision, compiled=variant.compiled)
        dit.execution.matmul = variant.matmul or dit.execution.matmul
        dit.residency.make_room(self.usual)
        return dit

    def timed(self, step: Callable[[], Tensor]) -> tuple[float, Tensor]:
        """Run a step; return its seconds and output."""
        self.dit.device.synchronise()
        started = time.perf_counter()
        out = step()
        self.dit.device.synchronise()
        return time.perf_counter() - started, out

    def limit(self, budget: int | None) -> None:
        """Let torch refuse to reserve more than `budget` bytes; None lifts that."""
        if self.cuda:
            self.dit.device.release_cache()
            card = torch.cuda.get_device_properties(self.device).total_memory
            share = 1.0 if budget is None else min(1.0, budget / card)
            torch.cuda.set_per_process_memory_fraction(share, self.device)

    def save(self) -> None:
        """Write what is known so far."""
        self.figures["variants"] = {
            v.name: v.figures | {"rounds_s": v.seconds} for v in self.variants
        }
        if self.options.json is not None:
            self.options.json.write_text(json.dumps(self.figures, indent=1), encoding="utf-8")
