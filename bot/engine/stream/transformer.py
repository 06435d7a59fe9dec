"""A transformer within a byte budget: DiffSynth's weights, streamed by the block."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bot.engine.stream import attention, lora
from bot.engine.stream.block_compiler import BlockCompiler
from bot.engine.stream.budget import Plan, Work
from bot.engine.stream.compiling import KernelSet
from bot.engine.stream.device import Device, open_device
from bot.engine.stream.double_stream import DoubleStream
from bot.engine.stream.execution import Execution
from bot.engine.stream.guidance import guided
from bot.engine.stream.layout import Geometry, Kind, Layout, Packed, Precision
from bot.engine.stream.lora_placement import LoraPlacement
from bot.engine.stream.network import Generation, Inputs, NetworkKind, TransformerNetwork
from bot.engine.stream.residency import Residency
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.step_times import StepTimes
from bot.engine.stream.weights import WeightStore

log = logging.getLogger(__name__)


class StreamedDiT:
    """Predicts noise as DiffSynth's network does, for a batch and both guidance branches.

    `outer` is that network, whose weights outside of the blocks are loaded; its blocks are not
    used. Give every block to `add_block` before the first prediction. `kind` is its kind:
    Qwen-Image's unless another is given. `kernels` are shared with other transformers.

    Its parts: `network` (what is its kind's own), `weights` (the blocks'), `execution` (how a
    block is computed) and `residency` (which blocks stay on the device).
    """

    def __init__(
        self,
        outer: Any,
        geometry: Geometry,
        settings: TransformerSettings,
        kind: NetworkKind = DoubleStream,
        kernels: KernelSet | None = None,
    ) -> None:
        self.geometry = geometry
        self.device: Device = open_device(settings.device)
        self.network: TransformerNetwork = kind(outer, geometry, self.device, settings)
        network = self.network
        self.weights = WeightStore(geometry, network.layouts, network.bind, self.device)
        self.execution = Execution(network, settings, self.device, self.weights, kernels)
        self.residency = Residency(network, self.device, self.weights, self.execution)
        self._loras = LoraPlacement(
            network, self.device, self.weights, self.execution, self.residency
        )
        self._step_times = StepTimes()
        self._compiler = BlockCompiler(network, self.weights, self.execution)
        if self.device.torch.type == "cuda":
            work = settings.usual
            attention.choose_kernel(
                work.image_tokens + max(work.text_tokens),
                geometry.heads,
                geometry.head_dim,
                self.device.torch,
            )

    @classmethod
    def from_module(
        cls, dit: Any, settings: TransformerSettings, kind: NetworkKind = DoubleStream
    ) -> StreamedDiT:
        """Build it from a whole network of DiffSynth's, whose blocks are emptied on the way."""
        geometry = Geometry.of(dit)
        states = [dict(block.state_dict()) for block in dit.transformer_blocks]
        dit.transformer_blocks = torch.nn.ModuleList()
        made = cls(dit, geometry, settings, kind)
        for index in range(geometry.layers):
            made.add_block(index, states[index])
            states[index] = {}
        return made

    @property
    def settings(self) -> TransformerSettings:
        """The settings in force; `configure` changes some of them."""
        return self.execution.settings

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """How a block's parts are stored."""
        return tuple(self.weights.layouts.values())

    @property
    def resident(self) -> frozenset[int]:
        """Which blocks are on the device at the moment."""
        return self.weights.resident

    @torch.no_grad()
    def add_block(self, index: int, state: Mapping[str, Tensor]) -> None:
        """Quantise and place block `index`, its tensors named without the block's prefix."""
        for kind, layout in self.weights.layouts.items():
            self.add_packed(kind, index, layout.pack(state, self.device.torch))

    def add_packed(self, kind: Kind, index: int, packed: Packed) -> bool:
        """Place one part of block `index` as `Layout.pack` made it; see `WeightStore.add`."""
        resident = kind == "block" and index in self.plan(self.settings.usual).resident
        return self.weights.add(kind, index, packed, resident=resident)

    def configure(self, budget: int | None, precision: Precision, *, compiled: bool) -> None:
        """Change what can be changed without loading anew; takes effect at the next `prepare`.

        `budget` is in bytes. `fp8-fast` is tried with the model's shapes first and becomes `fp8`
        where it fails.
        """
        self.execution.configure(budget, precision, compiled=compiled)

    def plan(self, work: Work) -> Plan:
        """Return how the budget would be shared for `work`; see `Residency.plan`."""
        return self.residency.plan(work)

    def use(self, loras: Sequence[lora.Lora]) -> None:
        """Add these LoRAs, and no others, to what follows.

        The additions stay on the device, and blocks leave it for them.

        Raises `EngineError` for a file of another model (`REFUSED`) and where the budget has no
        room (`OUT_OF_MEMORY`); then the LoRAs of before stay, or none.
        """
        while True:
            try:
                self._loras.use(loras)
            except torch.OutOfMemoryError:
                if not self.residency.give_way():
                    raise
            else:
                return

    @torch.no_grad()
    def prepare(
        self,
        prompts: Sequence[Tensor],
        timesteps: Tensor,
        *,
        width: int,
        height: int,
        pictures: int = 1,
        references: Sequence[Tensor] = (),
        places: tuple[int, ...] = (),
        on_compile: Callable[[], None] | None = None,
    ) -> Generation:
        """Make room, compile what is not compiled yet, and compute what every step shares.

        `prompts` are the text encoder's [tokens, width] for the prompt and, with guidance, for
        the negative prompt; `timesteps` [steps] are the scheduler's, from 1000 down. `references`
        are latents [1, channels, height, width] of any sizes that every picture is drawn after, and
        `places` what `Inputs` says. `on_compile` is called before each structure that has to be
        compiled first; it may raise to cancel.

        Raises `EngineError` (`OUT_OF_MEMORY`) where the budget has no room for the pictures, and
        `ValueError` for references that are no latents of its VAE, or have other places than the
        network takes.
        """
        self.residency.begin_job()
        tokens = tuple(prompt.shape[0] for prompt in prompts)
        sizes = tuple(self.network.latents.size_of(latents.shape) for latents in references)
        work = Work(width, height, pictures, tokens, sizes)
        while True:
            try:
                return self._prepared(prompts, timesteps, work, (references, places), on_compile)
            except torch.OutOfMemoryError:
                if not self.residency.give_way():
                    raise

    def _prepared(
        self,
        prompts: Sequence[Tensor],
        timesteps: Tensor,
        work: Work,
        placed: tuple[Sequence[Tensor], tuple[int, ...]],
        on_compile: Callable[[], None] | None,
    ) -> Generation:
        additions = self._loras.additions
        inputs = Inputs(
            prompts=prompts,
            timesteps=timesteps,
            work=work,
            loras=self._loras.names,
            additions=additions,
            kernel=self.execution.kernel,
            wide=self.execution.wide,
            references=placed[0],
            places=placed[1],
        )
        # The plan is of this job's prefixes alone: blocks come back into the room of the others.
        self.network.forget(but_for=inputs)
        self.residency.make_room(work)
        generation = self.network.begin(inputs, self.weights)
        self._compiler.compile(generation, additions, on_compile)
        self.residency.make_room(work)  # again: where compiling failed, plain code takes more
        return generation

    @torch.no_grad()
    def predict(
        self,
        generation: Generation,
        step: int,
        latents: Tensor,
        guidance: float = 1.0,
        *,
        norm: bool = False,
    ) -> Tensor:
        """Return the predicted noise of `latents` [pictures, channels, height, width].

        With two prompts the result is what `guided` makes of their predictions. Should memory run
        out after all, blocks are evicted and the step is tried again.
        """
        while True:
            try:
                images = self._predict(generation, step, latents)
                if len(generation.work.text_tokens) == 1:
                    return images
                positive, negative = images.unflatten(0, (len(latents), -1)).unbind(1)
                patch = self.network.latents.patch
                return guided(positive, negative, guidance, norm=norm, patch=patch)
            except torch.OutOfMemoryError:
                if not self.residency.give_way():
                    raise

    def note_step(self, work: Work, seconds: float) -> None:
        """Take note of how long a step of `work` took; blocks leave where the driver pages.

        Without a budget there is no card to be overbooked: other work held the step up.
        """
        if self.settings.budget is None:
            return
        kind = (work, self.execution.compiled, self._loras.names)
        if self._step_times.is_slow(kind, seconds) and self.residency.give_way(paging=True):
            log.warning(
                "A step took %.1f s instead of %.1f s, as when the driver moves the card's memory "
                "to main memory: %d of %d blocks stay on the card.",
                seconds,
                self._step_times.usual(kind),
                len(self.resident),
                self.geometry.layers,
            )

    def _predict(self, generation: Generation, step: int, latents: Tensor) -> Tensor:
        """Return each branch's prediction [pictures * branches, channels, height, width]."""
        network, execution = self.network, self.execution
        kernels, kernel, wide = execution.kernels, execution.kernel, execution.wide
        moment = network.moment(generation, step)
        units = network.units(generation, latents)
        if kernels.compiled:
            network.mark_lengths(generation, units)
        self.weights.begin("block")
        for index in range(self.geometry.layers):
            with self.weights.block(index, self._loras.additions, wide=wide) as weights:
                for unit in units:
                    network.run(kernels.block, kernel, unit, generation, moment, index, weights)
        return network.finish(units, moment, *latents.shape[-2:])
