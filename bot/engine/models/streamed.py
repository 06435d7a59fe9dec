"""Models with their blocks streamed: the backend around bot/engine/stream.

It encodes, denoises a whole batch in one pass, and decodes picture by picture, within one budget.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from bot.catalogue.lora_layers import lora_target
from bot.catalogue.models import find_model
from bot.engine.child.backend import Drawn, LoadInfo, Reporter, WrittenText
from bot.engine.child.inputs import cut
from bot.engine.child.references import Reference
from bot.engine.child.region import Region
from bot.engine.files.find import keep_compiled_code
from bot.engine.models.families import FAMILIES
from bot.engine.models.overflow import overflowed
from bot.engine.models.references import read_references
from bot.engine.models.shelf import NetworkShelf
from bot.engine.options import Activity, EngineOptions, LoadProgress
from bot.engine.protocol import EngineRequest, WriteRequest
from bot.words import mark


class StreamedQwenImage:
    """A `Backend` on the streamed networks of any family, at full size or tiny.

    Other models' networks lie on the `shelf`, and its own when it is released.
    """

    def __init__(
        self, model: str, options: EngineOptions, shelf: NetworkShelf | None = None
    ) -> None:
        self._spec = find_model(model)
        self._options = options
        self._shelf = NetworkShelf(0) if shelf is None else shelf
        self._networks: Any = None
        self._loras: Any = None
        self._preview: Any = None

    def load(self, progress: LoadProgress) -> LoadInfo:
        """See `Backend`."""
        progress(mark("importing libraries"), None)
        started = time.perf_counter()
        if self._spec.published is not None:
            keep_compiled_code(self._options.model_path)
        load = FAMILIES[self._spec.family].streamed_load()
        imports_s = time.perf_counter() - started
        from bot.engine.stream.lora_files import LoraFiles  # noqa: PLC0415
        from bot.engine.stream.preview import LatentPreview  # noqa: PLC0415 - these import torch

        self._networks = load(self._spec.name, self._options, progress, self._shelf)
        self._loras = LoraFiles(self._options.lora_path, lora_target(self._spec.family))
        self._preview = LatentPreview.of(self._networks.codec)
        networks = self._networks
        return LoadInfo(self._spec.name, networks.device_name, imports_s, networks.card_use())

    def release(self) -> None:
        """Hold no network any more: what of them goes and what stays is the shelf's to decide."""
        if self._networks is not None:
            self._networks.release()
        self._networks = self._loras = self._preview = None

    def _embedded(self, prompts: list[str], references: list[Reference], work: Any) -> Any:
        """Encode the prompts, which all see the `references`, in memory that may have to be made.

        A very long one needs more room than the plan left. Many pictures take much as well: a
        `work` that has no room even without a word is refused before they are looked at, with what
        would have.
        """
        import torch  # noqa: PLC0415 - loaded by now

        from bot.engine.stream.vision_picture import vision_picture  # noqa: PLC0415

        dit, kind = self._networks.dit, self._networks.embedder.vision_kind
        # Branches that go together are few tokens; with words they may go apart, in less room.
        if not work.joint:
            self._networks.room(work)
        pictures = [vision_picture(one.seen, kind) for one in references]
        while True:
            try:
                return self._networks.embedder.embed(prompts, pictures=pictures)
            except torch.OutOfMemoryError:
                if not dit.residency.give_way():
                    raise

    def _latents(
        self, references: list[Reference], room: int | None, report: Reporter
    ) -> tuple[Any, ...]:
        """Encode what pictures are drawn after."""
        found: list[Any] = []
        for one in references:
            report.stage(Activity.ENCODE)  # a cancel is heard between pictures too
            size = one.picture.size
            found.append(self._networks.codec.encode(one.picture, *size, room, alpha=True))
        return tuple(found)

    def generate(self, request: EngineRequest, report: Reporter) -> Iterator[Drawn]:
        """See `Backend`. Every step is one pass over all pictures."""
        from bot.engine.stream.finite import NotFinite  # noqa: PLC0415 - loaded by now

        try:
            yield from self._drawn(request, report)
        except NotFinite as error:
            raise overflowed(self._networks.dit.execution.precision, request.loras) from error

    def write(self, request: WriteRequest, report: Reporter) -> WrittenText:
        """See `Backend`. The text encoder's language model writes it."""
        from bot.engine.models.streamed_writing import write_text  # noqa: PLC0415 - loaded by now

        return write_text(self._networks, request, report)

    def _drawn(self, request: EngineRequest, report: Reporter) -> Iterator[Drawn]:
        from bot.engine.stream.budget import Work  # noqa: PLC0415 - loaded by now
        from bot.engine.stream.denoise import DenoiseInputs, denoise  # noqa: PLC0415
        from bot.engine.stream.preview import is_shown  # noqa: PLC0415
        from bot.engine.stream.region import latent_mask  # noqa: PLC0415

        def show(step: int, latents: Any) -> None:
            if is_shown(step, request.steps):
                report.preview(step, self._preview.encoded(latents))

        networks = self._networks
        networks.adapt()
        networks.dit.device.reset_peak()
        marks = [time.perf_counter()]
        report.stage(Activity.ENCODE)
        networks.dit.use(self._loras.take(request.loras))
        prompts = [request.prompt]
        if request.guidance != 1.0:
            prompts.append(request.negative_prompt)
        size = request.width, request.height
        width, height = networks.dit.network.latents.covering(*size)
        references = read_references(request, self._spec, networks.references, (width, height))
        sizes = tuple(one.picture.size for one in references)
        wordless = Work(width, height, len(request.seeds), (0,) * len(prompts), sizes)
        embeddings = self._embedded(prompts, references, wordless)
        # Of one picture: they are decoded one by one. Whether all have room is told at `prepare`.
        room = networks.room(Work(width, height, 1, tuple(map(len, embeddings)), sizes))
        source, mask, strength = None, None, 1.0
        alpha = request.transparent and self._spec.alpha
        region = Region.read(request, alpha=alpha)
        picture = request.input_image
        if region is not None:
            covered = region.within((width, height))
            picture = covered.source
            mask = latent_mask(covered.mask, networks.dit.network.latents.pixels)
        if picture is not None:
            source = networks.codec.encode(picture, width, height, room, alpha=request.transparent)
            strength = 1.0 if request.strength is None else request.strength
        latents_of = self._latents(references, room, report)
        marks.append(time.perf_counter())
        latents = denoise(
            networks.dit,
            DenoiseInputs(
                positive=embeddings[0],
                negative=embeddings[1] if len(embeddings) > 1 else None,
                seeds=request.seeds,
                width=width,
                height=height,
                steps=request.steps,
                guidance=request.guidance,
                source=source,
                strength=strength,
                mask=mask,
                shift=request.shift,
                noise_levels=self._spec.levels_of(strength),
                cfg_norm=request.cfg_norm,
                reuse=request.reuse,
                references=latents_of,
                places=networks.embedder.places(len(latents_of)),
            ),
            on_stage=report.stage,
            on_step=report.step,
            on_latents=show,
        )
        marks.append(time.perf_counter())
        report.stage(Activity.DECODE)
        timings = {"encode": marks[1] - marks[0], "denoise": marks[2] - marks[1]}
        for image in networks.codec.decode(latents, room, alpha=request.transparent):
            now = time.perf_counter()
            peak = networks.dit.device.peak()[0]
            timings |= {"decode": now - marks[-1]}
            asked = cut(image, size)
            whole = asked if region is None else region.paste(asked)
            yield Drawn(whole, timings, peak or None, networks.card_use())
            timings = {}
            marks.append(time.perf_counter())
