"""Requests made from a job that has ended: again, varied, edited, larger."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bot.catalogue.models import ModelSpec
from bot.domain.job import ImageRecord, Job
from bot.domain.request import SIZE_MULTIPLE, ImageRequest, random_seed
from bot.errors import InvalidRequest
from bot.jobs.compose import is_none, says_none, shaped_like, suited
from bot.words import _

# Shares of the noise that image to image begins with: enough for another composition, and little
# enough that an enlarged picture stays the same.
VARY_STRENGTH: Final = 0.6
UPSCALE_STRENGTH: Final = 0.3
UPSCALE_FACTOR: Final = 2.0
_WORTHWHILE: Final = 1.1


def _request(job: Job) -> ImageRequest:
    if not job.readable:
        raise InvalidRequest(_("This request can no longer be read; please ask anew."))
    # What a newer version stored besides is about that job, not about this one.
    return replace(job.request, extra={})


def again(job: Job) -> ImageRequest:
    """Return the same request with a new seed; it starts from the same picture, if from any."""
    return _request(job).with_changes(seed=random_seed(), input_image=None)


def varied(job: Job, picture: ImageRecord) -> ImageRequest:
    """Return the request for another picture like this one."""
    return _request(job).with_changes(
        seed=random_seed(),
        width=picture.width,
        height=picture.height,
        input_image=None,
        strength=VARY_STRENGTH,
        parent=job.id,
    )


def edited(job: Job, prompt: str, negative_prompt: str) -> ImageRequest:
    """Return the request with other words; it starts from the same picture, if from any."""
    request = _request(job)
    return request.with_changes(
        prompt=prompt,
        negative_prompt="" if is_none(negative_prompt) else negative_prompt,
        model_negative="" if says_none(negative_prompt) else request.model_negative,
        seed=random_seed(),
        input_image=None,
        parent=job.id,
    )


def upscaled(job: Job, picture: ImageRecord, largest: int) -> ImageRequest:
    """Return the request for this picture at twice its size, at most `largest` pixels on a side.

    Raises `InvalidRequest` where it is about as large already.
    """
    factor = min(UPSCALE_FACTOR, largest / max(picture.width, picture.height))
    if factor < _WORTHWHILE:
        raise InvalidRequest(
            _("This picture is as large as the model can draw: {width}x{height}.").format(
                width=picture.width, height=picture.height
            )
        )
    longest = max(picture.width, picture.height)
    wanted = min(int(longest * UPSCALE_FACTOR), largest)
    width, height = (
        side * wanted // longest // SIZE_MULTIPLE * SIZE_MULTIPLE
        for side in (picture.width, picture.height)
    )
    request = _request(job)
    return request.with_changes(
        seed=picture.seed,
        count=1,
        width=width,
        height=height,
        # Little noise is to be taken away, and each step costs four times as much.
        steps=max(1, round(request.steps / 2)),
        aspect=None,
        quality=None,
        input_image=None,
        strength=UPSCALE_STRENGTH,
        parent=job.id,
    )


def drawn_by(request: ImageRequest, model: ModelSpec, before: ModelSpec | None) -> ImageRequest:
    """Return the request of the model `before` for another one, which draws it instead.

    Size, steps and guidance that came from the old model's table are those of the new one's; what
    somebody asked for is kept as far as the new one can. None: an old model that nobody knows.
    """
    size = request.width, request.height
    if request.aspect is not None and request.aspect in model.sizes:
        width, height = model.sizes[request.aspect]
        request = request.with_changes(width=width, height=height)
    elif max(size) > model.largest_asked:
        request = shaped_like(request, size, model.sizes)
    if before is not None and request.shift is None:
        old = before.qualities.get(request.quality or before.default_quality)
        new = model.qualities.get(request.quality or "", model.qualities[model.default_quality])
        if old is not None and request.guidance == old.guidance:
            request = request.with_changes(guidance=new.guidance)
        if old is not None and request.quality and request.steps == old.steps:
            request = request.with_changes(steps=new.steps)
    return suited(request, model)
