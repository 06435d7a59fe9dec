"""Qwen-Image's transformer within a byte budget: DiffSynth's weights, streamed by the block."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bot.engine.stream import attention, lora
from bot.engine.stream.block import EPSILON, Kernel, Run
from bot.engine.stream.budget import Fixed, Plan, Work, activation_bytes, plan
from bot.engine.stream.compiling import Kernels, Widen, mark_lengths
from bot.engine.stream.device import Device, open_device
from bot.engine.stream.generation import Generation, Unit, from_patches, to_patches
from bot.engine.stream.layout import Geometry, Layout, Packed, Precision
from bot.engine.stream.modulation import Modulation
from bot.engine.stream.quantize import Matmul, probe_fp8_matmul
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.weights import Kind, WeightStore
from bot.errors import EngineError


class StreamedDiT:
    """Predicts noise as DiffSynth's `QwenImageDiT` does, for a batch and both guidance branches.

    `outer` is a `QwenImageDiT` whose weights outside of the blocks are loaded; its blocks are not
    used. Give every block to `add_block` before the first prediction.
    """

    def __init__(self, outer: Any, geometry: Geometry, settings: TransformerSettings) -> None:
        self.geometry = geometry
        self.settings = settings
        self.device: Device = open_device(settings.device)
        self._outer = outer.to(device=self.device.torch, dtype=settings.dtype)
        self._patch = lora.OuterPatch(self._outer)
        self._made: dict[bool, Kernels] = {}
        self._kernels = self._compiled(settings.compile)
        self.weights = WeightStore(geometry, settings, self.device, self._kernels.widen)
        self._modulation = Modulation(geometry, self.device, settings.dtype)
        self._loras: tuple[lora.Lora, ...] = ()
        self._additions: dict[tuple[int, str], lora.LowRank] = {}
        self._probed: Matmul | None = None
        self._compiling = 0
        self.matmul = Matmul.WEIGHT_ONLY
        self.configure(settings.budget, settings.precision, compiled=settings.compile)
        if self.device.torch.type == "cuda":
            work = settings.usual
            attention.choose_kernel(
                work.image_tokens + max(work.text_tokens),
                geometry.heads,
                geometry.head_dim,
                self.device.torch,
            )

    @classmethod
    def from_module(cls, dit: Any, settings: TransformerSettings) -> StreamedDiT:
        """Build it from a whole `QwenImageDiT`, whose blocks are emptied on the way."""
        geometry = Geometry.of(dit)
        states = [dict(block.state_dict()) for block in dit.transformer_blocks]
        dit.transformer_blocks = torch.nn.ModuleList()
        made = cls(dit, geometry, settings)
        for index in range(geometry.layers):
            made.add_block(index, states[index])
            states[index] = {}
        return made

    # Loading

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """How a block's two halves are stored; LoRA files are read against these."""
        return tuple(self.weights.layouts.values())

    @torch.no_grad()
    def add_block(self, index: int, state: Mapping[str, Tensor]) -> None:
        """Quantise and place block `index`, its tensors named without the block's prefix."""
        for kind, layout in self.weights.layouts.items():
            self.add_packed(kind, index, layout.pack(state, self.device.torch))

    def add_packed(self, kind: Kind, index: int, packed: Packed) -> None:
        """Place one half of block `index` as `Layout.pack` made it."""
        resident = kind == "block" and index in self.plan(self.settings.usual).resident
        self.weights.add(kind, index, packed, resident=resident)

    def configure(self, budget: int | None, precision: Precision, *, compiled: bool) -> None:
        """Change what can be changed without loading anew; takes effect at the next `prepare`.

        `fp8-fast` is tried with the model's shapes first and becomes `fp8` where it fails.
        """
        assert precision.quantized == self.settings.precision.quantized
        self.settings = replace(self.settings, budget=budget, precision=precision, compile=compiled)
        self._kernels = self._compiled(compiled)
        self.weights.widen = self._kernels.widen
        self._compiling = 0
        self.matmul = Matmul.WEIGHT_ONLY
        if precision is Precision.FP8_FAST:
            if self._probed is None:
                pieces = self.weights.layouts["block"].pieces
                shapes = {(piece.rows, piece.columns) for piece in pieces}
                self._probed = probe_fp8_matmul(sorted(shapes), self.device.torch)
            self.matmul = self._probed

    def _compiled(self, wanted: bool) -> Kernels:
        if wanted not in self._made:
            self._made[wanted] = Kernels(
                self.device.torch, wanted=wanted, cache=self.settings.cache
            )
        return self._made[wanted]

    @property
    def compiled(self) -> bool:
        """Whether blocks are compiled."""
        return self._kernels.compiled

    @property
    def resident(self) -> frozenset[int]:
        """Which blocks are on the device at the moment."""
        return self.weights.resident

    @property
    def _wide(self) -> bool:
        return self.matmul is Matmul.WEIGHT_ONLY

    def plan(self, work: Work, lora_bytes: int | None = None, more: int | None = None) -> Plan:
        """Return how the budget would be shared for `work`; see `budget.plan`.

        `lora_bytes` is what the LoRAs take, those in use unless it is given; `more` what else
        needs room, what is being compiled unless it is given.
        """
        if more is None:
            more = self._compiling if self._kernels.busy else 0
        if lora_bytes is None:
            lora_bytes = sum(t.nbytes for pair in self._additions.values() for t in pair)
        settings, element = self.settings, self.settings.dtype.itemsize
        block, modulation = self.weights.layouts.values()
        outer = sum(p.numel() for p in self._outer.parameters()) * element
        fixed = Fixed(
            block=block.size,
            slot=max(block.size, modulation.size),
            scratch=block.elements * element if block.quantized and self._wide else 0,
            small=outer + self._modulation.bytes_per_step + self.weights.small_size,
            hole=self.device.hole,
            others=settings.others + more,
            others_working=max(settings.others_working, modulation.elements * element),
        )
        return plan(
            work,
            self.geometry,
            fixed,
            settings.budget,
            element,
            compiled=self._kernels.active,
            lora_bytes=lora_bytes,
            most=self.weights.most if self.weights.complete else 0,
        )

    def make_room(self, work: Work) -> Plan:
        """Evict or bring back blocks until the resident set is the one planned for `work`."""
        wanted = self.plan(work)
        self.weights.keep(wanted.resident, scratch=self._wide)
        return wanted

    # LoRA

    @torch.no_grad()
    def use(self, loras: Sequence[lora.Lora]) -> None:
        """Add these LoRAs, and no others, to what follows.

        The additions stay on the device, and blocks leave it for them.

        Raises `EngineError` for a file of another model (`REFUSED`) and where the budget has no
        room (`OUT_OF_MEMORY`); then the LoRAs of before stay, or none.
        """
        if [x.name for x in loras] == [x.name for x in self._loras]:
            return
        self._patch.check(loras)
        ranks = lora.joined_ranks(loras, self.layouts, self.geometry.layers)
        self._patch.apply(())
        self._loras, self._additions = (), {}
        dtype, device = self.settings.dtype, self.device.torch
        numbers = sum(rank * (piece.rows + piece.columns) for (_, piece), rank in ranks.items())
        plan = self.plan(self.settings.usual, numbers * dtype.itemsize)
        self.weights.keep(plan.resident, scratch=self._wide)
        try:
            self._patch.apply(loras)
            # One after another: all together they would take gigabytes of main memory.
            self._additions = {
                (index, piece.name): lora.join(loras, index, piece, dtype, device)
                for index, piece in ranks
            }
        except BaseException:
            # Else the next job, which asks for none, would find them in the outer layers.
            self._patch.apply(())
            raise
        self._loras = tuple(loras)

    # Generating

    @torch.no_grad()
    def prepare(
        self,
        prompts: Sequence[Tensor],
        timesteps: Tensor,
        *,
        width: int,
        height: int,
        pictures: int = 1,
    ) -> Generation:
        """Make room, and compute what every step shares.

        `prompts` are the text encoder's [tokens, width] for the prompt and, with guidance, for
        the negative prompt; `timesteps` [steps] are the scheduler's, from 1000 down.
        """
        dtype, device = self.settings.dtype, self.device.torch
        lengths = tuple(prompt.shape[0] for prompt in prompts)
        work = Work(width, height, pictures, lengths)
        outer = self._outer
        texts = tuple(
            outer.txt_in(outer.txt_norm(prompt.to(device, dtype)[None]))[0] for prompt in prompts
        )
        shape = [(1, height // 16, width // 16)]
        ropes = [outer.pos_embed(shape, [length], device=device) for length in lengths]
        image_rope = torch.view_as_real(ropes[0][0]).contiguous()
        text_ropes = tuple(torch.view_as_real(text).contiguous() for _, text in ropes)
        self._choose_kernels(work, texts, image_rope, text_ropes)
        self.make_room(work)
        key = (tuple(timesteps.tolist()), tuple(x.name for x in self._loras))
        table = self._modulation.table(key, lambda: self._embed(timesteps), outer, self._modulated)
        return Generation(
            work,
            texts,
            image_rope,
            text_ropes,
            table,
        )

    def _choose_kernels(
        self,
        work: Work,
        texts: tuple[Tensor, ...],
        image_rope: Tensor,
        text_ropes: tuple[Tensor, ...],
    ) -> None:
        """Have a block of `work`'s structure compiled; wait for it as long as is allowed."""
        together = len(texts) if work.joint else 1
        structures = self.weights.structures(self._additions)
        key = (together, self.matmul, frozenset(structures))
        kernels = self._kernels
        if not kernels.busy and not kernels.is_ready(key):
            wide, geometry = self._wide, self.geometry
            blocks = tuple(structures.values())
            # Not all of them: the thread must not keep those of a job that is over.
            additions = {at: pair for at, pair in self._additions.items() if at[0] in blocks}
            kernel = Kernel(geometry, self.matmul, self.weights.layouts["block"].quantized)
            modulation = texts[0].new_zeros(12, geometry.dim)
            image = texts[0].new_zeros(together, len(image_rope), geometry.dim)
            those, ropes = list(texts[:together]), list(text_ropes[:together])

            def sample(block: Run, widen: Widen) -> None:
                mark_lengths(image, those, [image_rope, *ropes])
                for index in blocks:
                    weights = self.weights.sample(index, additions, widen, wide=wide)
                    block(kernel, image, those, modulation, weights, image_rope, ropes)
                    del weights  # before the next are made

            # Blocks make room for it, whether or not a picture is drawn meanwhile.
            element = self.settings.dtype.itemsize
            self._compiling = activation_bytes(work, geometry, element, compiled=True)
            self._compiling += self.weights.sample_bytes(wide=wide)
            fits = self._fits(work, self._compiling)
            spare = self.plan(work, more=self._compiling).resident if fits else frozenset[int]()
            self.weights.keep(spare, scratch=wide)
            kernels.compile(key, sample)
        if not kernels.choose(key, self.settings.compile_wait) and not self._fits(work):
            # The budget is too small for both: the picture waits.
            kernels.choose(key, math.inf)
        self.weights.widen = kernels.widen

    def _fits(self, work: Work, more: int | None = None) -> bool:
        try:
            self.plan(work, more=more)
        except EngineError:
            return False
        return True

    def forget_tables(self) -> None:
        """Drop the modulation of earlier schedules."""
        self._modulation.forget()

    def _embed(self, timesteps: Tensor) -> Tensor:
        # As the pipeline does: rounded to the activations' type, then divided.
        scaled = timesteps.to(self.device.torch, self.settings.dtype) / 1000
        self.weights.begin("modulation")
        return self._outer.time_text_embed(scaled, self.settings.dtype)

    @contextmanager
    def _modulated(self, index: int, embedding: Tensor) -> Generator[Tensor]:
        with self.weights.modulation(index) as matrix:
            out = functional.linear(embedding, matrix.weight, matrix.bias)
            addition = self._additions.get((index, "modulation"))
            if addition is not None:
                out += functional.linear(functional.linear(embedding, addition.down), addition.up)
            yield out

    @torch.no_grad()
    def predict(
        self, generation: Generation, step: int, latents: Tensor, guidance: float = 1.0
    ) -> Tensor:
        """Return the predicted noise of `latents` [pictures, 16, height / 8, width / 8].

        With two prompts the result is negative + guidance * (positive - negative). Should memory
        run out after all, blocks are evicted and the step is tried again.
        """
        while True:
            try:
                return self._predict(generation, step, latents, guidance)
            except torch.OutOfMemoryError:
                if not self.resident:
                    raise
            self.give_way()

    def give_way(self) -> None:
        """Let a twentieth of the blocks leave the device until the next `prepare`."""
        self.device.release_cache()
        left = sorted(self.resident)[: -max(1, self.geometry.layers // 20)]
        self.weights.keep(frozenset(left), scratch=self._wide)

    def _predict(
        self, generation: Generation, step: int, latents: Tensor, guidance: float
    ) -> Tensor:
        modulation, final = self._modulation.step(generation.table, step)
        units = self._units(generation, latents)
        kernel = Kernel(self.geometry, self.matmul, self.weights.layouts["block"].quantized)
        self.weights.begin("block")
        for index in range(self.geometry.layers):
            with self.weights.block(index, self._additions, wide=self._wide) as weights:
                for unit in units:
                    unit.image, unit.texts = self._kernels.block(
                        kernel,
                        unit.image,
                        unit.texts,
                        modulation[index],
                        weights,
                        generation.image_rope,
                        unit.ropes,
                    )
        branches = len(generation.texts)
        images = torch.cat([self._finished(unit, final, latents) for unit in units])
        if branches == 1:
            return images
        positive, negative = images.unflatten(0, (-1, branches)).unbind(1)
        return negative + guidance * (positive - negative)

    def _units(self, generation: Generation, latents: Tensor) -> list[Unit]:
        units: list[Unit] = []
        texts, ropes = generation.texts, generation.text_ropes
        for patches in to_patches(latents.to(self.device.torch, self.settings.dtype)):
            image = self._outer.img_in(patches)
            if generation.work.joint:
                branches = torch.stack([image] * len(texts))
                units.append(Unit(branches, list(texts), list(ropes)))
            else:
                units += [
                    Unit(image[None], [text], [rope])
                    for text, rope in zip(texts, ropes, strict=True)
                ]
        if self._kernels.active:
            for unit in units:
                mark_lengths(unit.image, unit.texts, [generation.image_rope, *unit.ropes])
        return units

    def _finished(self, unit: Unit, final: Tensor, latents: Tensor) -> Tensor:
        image = functional.layer_norm(unit.image, (self.geometry.dim,), final[0], final[1], EPSILON)
        return from_patches(self._outer.proj_out(image), *latents.shape[-2:])

    def warm_up(self, work: Work | None = None) -> float:
        """Compile for `work`, or the usual picture; return the seconds it took."""
        work = work or self.settings.usual
        started = time.perf_counter()
        width = self._outer.txt_in.in_features
        prompts = [torch.zeros(n, width) for n in work.text_tokens]
        schedule = torch.tensor([1000.0])
        generation = self.prepare(
            prompts, schedule, width=work.width, height=work.height, pictures=work.pictures
        )
        latents = torch.zeros(work.pictures, 16, work.height // 8, work.width // 8)
        self.predict(generation, 0, latents, 4.0)
        self.device.synchronise()
        return time.perf_counter() - started
