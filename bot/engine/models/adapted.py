"""DiffSynth's other pipelines, called as its `QwenImagePipeline` is.

Those take no starting picture, or take one without a strength. Here the VAE's latents of a picture
are mixed with the noise that the scheduler has at the strength's first step (SDEdit, Meng et al.
2021, arXiv:2108.01073), in place of the pipeline's own unit that makes the first latents.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from diffsynth.diffusion.base_pipeline import PipelineUnit
from PIL import Image, ImageOps

from bot.engine.child.inputs import cut, flattened
from bot.engine.models.on_card import NetworksOnCard
from bot.engine.stream.preview import LatentPreview

Encode = Callable[[Any, Any], Any]
"""(pipeline, picture as a tensor) -> the latents as its transformer or U-Net takes them."""
OnLatents = Callable[[Any], None]
"""Called at each step with the latents as they would be if it were the last, [1, c, h, w]."""


class StartingLatents(PipelineUnit):
    """The first latents: noise, or noise mixed with a picture's."""

    def __init__(self, encode: Encode, mode: str) -> None:
        made: Any = ("latents", "input_latents")  # DiffSynth writes tuple[str] of any tuple
        super().__init__(input_params=("noise",), output_params=made, onload_model_names=("vae",))
        self._encode = encode
        self._mode = mode
        self.picture: Image.Image | None = None
        self.steps = 1

    def process(self, pipe: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the latents; called by the pipeline with `noise`."""
        noise = kwargs["noise"]
        if self.picture is None:
            return {"latents": noise, "input_latents": None}
        pipe.load_models_to_device(["vae"])
        pixels = pipe.preprocess_image(self.picture.convert(self._mode))
        latents = self._encode(pipe, pixels)
        pipe.scheduler.set_timesteps(
            self.steps, dynamic_shift_len=noise.shape[-2] * noise.shape[-1]
        )
        mixed = pipe.scheduler.add_noise(latents, noise, pipe.scheduler.timesteps[0])
        return {"latents": mixed.to(noise.dtype), "input_latents": None}


class Adapted:
    """A pipeline with the arguments of `QwenImagePipeline`; `fixed` are further ones of its own.

    `preview` shows its latents; None: they are not shown.
    """

    def __init__(
        self,
        pipe: Any,
        replaced: type[PipelineUnit],
        start: StartingLatents,
        on_card: NetworksOnCard,
        *,
        preview: LatentPreview | None = None,
        **fixed: Any,
    ) -> None:
        self._pipe = pipe
        self._start = start
        self.on_card = on_card
        self.preview = preview
        self._on_latents: OnLatents | None = None
        self._fixed = fixed
        self._strength = 1.0
        self._can_tile = "tiled" in inspect.signature(type(pipe).__call__).parameters
        pipe.units = [start if isinstance(unit, replaced) else unit for unit in pipe.units]
        assert start in pipe.units, f"{type(pipe).__name__} has no {replaced.__name__}"
        self._stock_timesteps = pipe.scheduler.set_timesteps
        pipe.scheduler.set_timesteps = self._set_timesteps
        self._stock_step = pipe.step
        pipe.step = self._step

    @property
    def stock(self) -> Any:
        """DiffSynth's own pipeline."""
        return self._pipe

    @property
    def device(self) -> Any:
        """The device that it computes on."""
        return self._pipe.device

    @property
    def scheduler(self) -> Any:
        """The pipeline's scheduler."""
        return self._pipe.scheduler

    def _set_timesteps(self, num_inference_steps: int, **options: Any) -> Any:
        # The pipelines have no strength among their arguments: their schedules get it here.
        return self._stock_timesteps(
            num_inference_steps, denoising_strength=self._strength, **options
        )

    def _step(
        self, scheduler: Any, latents: Any, progress_id: int, noise_pred: Any, **others: Any
    ) -> Any:
        if self._on_latents is not None:
            timestep = scheduler.timesteps[progress_id]
            predicted, noisy = noise_pred.float(), latents.float()
            self._on_latents(scheduler.step(predicted, timestep, noisy, to_final=True))
        return self._stock_step(
            scheduler, latents=latents, progress_id=progress_id, noise_pred=noise_pred, **others
        )

    def __call__(
        self,
        *,
        width: int,
        height: int,
        num_inference_steps: int,
        input_image: Image.Image | None,
        denoising_strength: float,
        tiled: bool = False,
        tile_size: int = 0,
        tile_stride: int = 0,
        alpha: bool = False,
        on_latents: OnLatents | None = None,
        **others: Any,
    ) -> Image.Image:
        """Draw; sides are rounded up to what the networks need, and the picture is cut to size.

        What is transparent is laid on white, unless `alpha` is asked for.
        """
        del tile_size, tile_stride  # meant for another VAE
        drawn_width = _multiple(width, self._pipe.width_division_factor)
        drawn_height = _multiple(height, self._pipe.height_division_factor)
        size = drawn_width, drawn_height
        self.on_card.adapt(*size)
        self._on_latents = on_latents
        self._strength = denoising_strength
        self._start.steps = num_inference_steps
        self._start.picture = None if input_image is None else ImageOps.fit(input_image, size)
        tiling = {"tiled": True} if tiled and self._can_tile else {}
        try:
            image = self._pipe(
                width=drawn_width,
                height=drawn_height,
                num_inference_steps=num_inference_steps,
                **self._fixed,
                **tiling,
                **others,
            )
        finally:
            self._on_latents = None
        return cut(image if alpha else flattened(image), (width, height))


def _multiple(value: int, of: int) -> int:
    return -(-value // of) * of
