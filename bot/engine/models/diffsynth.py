"""Models drawn by DiffSynth: the pipeline that is built for each, and how it draws a request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from bot.catalogue.models import ModelSpec, find_model
from bot.engine.child.backend import Drawn, LoadInfo, Reporter, WrittenText
from bot.engine.child.inputs import read_input
from bot.engine.faults import free_memory
from bot.engine.models.families import FAMILIES
from bot.engine.models.overflow import watch_output
from bot.engine.models.references import refuse_untaken
from bot.engine.models.refused_writing import no_writer
from bot.engine.options import Activity, EngineOptions, LoadProgress
from bot.engine.protocol import EngineRequest, WriteRequest
from bot.errors import EngineError, EngineErrorKind
from bot.words import mark

if TYPE_CHECKING:
    from bot.engine.stream.preview import LatentPreview  # imports torch

# Latent pixels; a tile of 512x512 and a quarter of it as overlap decodes 2048x2048 in half a GiB.
_TILE: Final = {"tiled": True, "tile_size": 64, "tile_stride": 48}


class DiffSynthModel:
    """A `Backend` around one of DiffSynth's pipelines, at full size or tiny."""

    def __init__(self, model: str, options: EngineOptions) -> None:
        self._spec = find_model(model)
        self._options = options
        self._pipe: Any = None
        self._device: _Device | None = None
        self._budget_gib: float | None = None

    def load(self, progress: LoadProgress) -> LoadInfo:
        """See `Backend`."""
        progress(mark("importing libraries"), None)
        started = time.perf_counter()
        # The heavy imports are a reported stage of loading.
        load = FAMILIES[self._spec.family].stock_load()
        imports_s = time.perf_counter() - started
        self._pipe, self._budget_gib = load(self._spec.name, self._options, progress)
        _set_levels(self._pipe.scheduler, self._spec)
        watch_output(getattr(self._pipe, "stock", self._pipe), self._options.precision)
        self._device = _Device(self._pipe.device)
        return LoadInfo(self._spec.name, self._device.name, imports_s)

    def release(self) -> None:
        """Let go of the pipeline, and of the memory that it takes."""
        self._pipe = self._device = None
        free_memory()

    def write(self, request: WriteRequest, report: Reporter) -> WrittenText:
        """See `Backend`. DiffSynth's pipelines have no language head."""
        del request, report
        raise no_writer(self._spec.name)

    def generate(self, request: EngineRequest, report: Reporter) -> Iterator[Drawn]:
        """See `Backend`. Picture i is drawn alone, from its own seed."""
        assert self._device is not None
        if request.loras or request.shift is not None:
            raise EngineError(
                EngineErrorKind.REFUSED,
                f"LoRAs with DiffSynth's own pipeline of {self._spec.name}",
                sentence=mark("LoRAs work with IMAGE_OFFLOAD=stream only.")
                if self._spec.streamed
                else mark("This model draws without LoRAs."),
            )
        refuse_untaken(request, self._spec, streamed=False)
        if request.redraws_a_part:
            raise EngineError(
                EngineErrorKind.REFUSED,
                f"a part of a picture with DiffSynth's own pipeline of {self._spec.name}",
                sentence=mark("A part of a picture is redrawn with IMAGE_OFFLOAD=stream only.")
                if self._spec.streamed
                else mark("This model draws whole pictures only."),
            )
        total = request.steps * len(request.seeds)
        source, strength = None, 1.0
        transparent = request.transparent and self._spec.alpha
        alpha = {"alpha": True} if transparent else {}
        if request.input_image is not None:
            size = request.width, request.height
            source = read_input(request.input_image, size, alpha=transparent)
            strength = 1.0 if request.strength is None else request.strength
        preview = getattr(self._pipe, "preview", None)
        finished: list[Any] = []
        for index, seed in enumerate(request.seeds):
            run = _Run(report, self._device, index * request.steps, total, preview, finished)
            self._device.reset_peak()
            image: Image.Image = self._pipe(
                prompt=request.prompt,
                negative_prompt=request.negative_prompt,
                cfg_scale=request.guidance,
                width=request.width,
                height=request.height,
                seed=seed,
                num_inference_steps=request.steps,
                input_image=source,
                denoising_strength=strength,
                progress_bar_cmd=run.watch,
                **self._tiling(request),
                **alpha,
                **({} if preview is None else {"on_latents": run.note_latents}),
            )
            _forget_sizes(self._pipe)
            yield Drawn(image, run.timings(), self._device.peak())

    def _tiling(self, request: EngineRequest) -> dict[str, Any]:
        # The decoder takes about 2 GiB per megapixel above its weights, measured in bf16.
        need_gib = 2.2 * request.width * request.height / 1e6 + 0.5
        too_large = self._budget_gib is not None and need_gib > self._budget_gib
        return _TILE if too_large else {}


class _Run:
    """One call of the pipeline: reports its steps, shows previews and measures its stages.

    `finished` are the latents of the pictures before it, which are shown beside it; its own are
    added. Without a `preview` nothing is shown.
    """

    def __init__(
        self,
        report: Reporter,
        device: _Device,
        done: int,
        total: int,
        preview: LatentPreview | None,
        finished: list[Any],
    ) -> None:
        self._report = report
        self._device = device
        self._done = done
        self._total = total
        self._preview = preview
        self._finished = finished
        self._latents: Any = None
        self._marks = [time.perf_counter()]
        report.stage(Activity.ENCODE)

    def watch(self, timesteps: Any) -> Iterator[Any]:
        """Stand where the pipeline expects a progress bar; the loop's body runs at each `yield`."""
        self._device.synchronise()
        self._marks.append(time.perf_counter())
        self._report.stage(Activity.DENOISE)
        for index, timestep in enumerate(timesteps, start=self._done + 1):
            yield timestep
            # A step is done when the GPU is, not when its work is queued.
            self._device.synchronise()
            self._report.step(index, self._total)
            self._show(index)
        if self._latents is not None:
            self._finished.append(self._latents)
        self._marks.append(time.perf_counter())
        self._report.stage(Activity.DECODE)

    def note_latents(self, latents: Any) -> None:
        """Take what is shown once the present step is done, [1, channels, height, width]."""
        self._latents = latents[0]

    def _show(self, step: int) -> None:
        from bot.engine.stream.preview import is_shown  # noqa: PLC0415 - loaded by now

        if self._preview is not None and is_shown(step, self._total):
            self._report.preview(step, self._preview.encoded([*self._finished, self._latents]))

    def timings(self) -> dict[str, float]:
        """Return the seconds of each stage."""
        started, encoded, denoised = self._marks
        return {
            "encode": encoded - started,
            "denoise": denoised - encoded,
            "decode": time.perf_counter() - denoised,
        }


def _forget_sizes(pipe: Any) -> None:
    """Drop the rotations that DiffSynth keeps of each size that was ever asked for, 2 to 8 MB."""
    embed = getattr(getattr(pipe, "dit", None), "pos_embed", None)
    if (kept := getattr(embed, "rope_cache", None)) is not None:
        kept.clear()


def _set_levels(scheduler: Any, spec: ModelSpec) -> None:
    """Give a single step its noise level, and a model that has levels of its own those.

    Of a single step DiffSynth's flow matching divides 0 by 0: all black.
    """
    stock = getattr(scheduler, "set_timesteps_fn", None)
    if stock is None:
        return

    def schedule(num_inference_steps: int, denoising_strength: float, **options: Any) -> Any:
        if levels := spec.levels_of(denoising_strength):
            return stock(len(levels), sigmas=list(levels))
        if num_inference_steps == 1:
            options["sigmas"] = [denoising_strength]
        return stock(num_inference_steps, denoising_strength, **options)

    scheduler.set_timesteps_fn = schedule


class _Device:
    """The few questions that a GPU answers differently from a CPU."""

    def __init__(self, device: Any) -> None:
        import torch  # noqa: PLC0415 - loaded by now

        self._cuda = torch.cuda if str(device).startswith("cuda") else None
        self.name = str(device) if self._cuda is None else self._cuda.get_device_name()

    def synchronise(self) -> None:
        """Wait until all queued work is done."""
        if self._cuda is not None:
            self._cuda.synchronize()

    def reset_peak(self) -> None:
        """Start measuring the peak of allocated memory afresh."""
        if self._cuda is not None:
            self._cuda.reset_peak_memory_stats()

    def peak(self) -> int | None:
        """Return the peak of allocated memory in bytes; None on a CPU."""
        return None if self._cuda is None else self._cuda.max_memory_allocated()
