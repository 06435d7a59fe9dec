"""Requests made from a job that has ended: again, varied, remixed, larger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from bot.catalogue.lightning import GUIDANCE, is_lightning
from bot.catalogue.models import ModelSpec
from bot.domain.job import ImageRecord, Job
from bot.domain.request import GUIDANCE_MIN, SIZE_MULTIPLE, ImageRequest, random_seed
from bot.errors import InvalidRequest
from bot.jobs.compose import FAST, is_none, says_none, shaped_like, suited
from bot.words import _

# Shares of the noise that image to image begins with: enough for another composition, and little
# enough that an enlarged picture stays the same.
VARY_STRENGTH: Final = 0.6
UPSCALE_STRENGTH: Final = 0.3
UPSCALE_FACTOR: Final = 2.0
_WORTHWHILE: Final = 1.1


@dataclass(frozen=True, slots=True)
class Offers:
    """What finished pictures can become: larger, or drawn anew with all the steps."""

    upscale: bool = True
    finish: bool = False


def offers(job: Job, images: Iterable[ImageRecord], model: ModelSpec | None) -> Offers:
    """Return what a job's pictures can become; None: an old model, of which nothing is known."""
    if model is None:
        return Offers()
    side = max((max(image.width, image.height) for image in images), default=1)
    return Offers(model.largest_side / side >= _WORTHWHILE, _unfinished(job.request, model))


def _unfinished(request: ImageRequest, model: ModelSpec) -> bool:
    return request.quality == FAST and model.qualities[model.default_quality].steps > request.steps


def request_of(job: Job) -> ImageRequest:
    """Return a job's request, for one that is made from it; raise `InvalidRequest`."""
    if not job.readable:
        raise InvalidRequest(_("This request can no longer be read; please ask again."))
    # What a newer version stored besides is about that job, not about this one.
    return replace(job.request, extra={})


def _same_inputs(job: Job) -> ImageRequest:
    """Return the request without the names of the job's files: the new job has its own copies."""
    return request_of(job).with_changes(input_image=None, references=(), mask=None)


def made_by(request: ImageRequest) -> str | None:
    """Return what was done to a picture, by "edit", "vary", "upscale" or "image"; None: drawn."""
    if request.references:
        return "edit"
    if request.input_image is None:
        return None
    known = {VARY_STRENGTH: "vary", UPSCALE_STRENGTH: "upscale"}
    return known.get(request.strength or 0.0, "image") if request.parent else "image"


def again(job: Job) -> ImageRequest:
    """Return the same request with a new seed; it starts from the same pictures, if from any."""
    return _same_inputs(job).with_changes(seed=random_seed())


def varied(job: Job, picture: ImageRecord) -> ImageRequest:
    """Return the request for another picture like this one."""
    return (
        request_of(job)
        .without_inputs()
        .with_changes(
            seed=random_seed(),
            width=picture.width,
            height=picture.height,
            strength=VARY_STRENGTH,
            parent=job.id,
        )
    )


def remixed(job: Job, prompt: str, negative_prompt: str, seed: int) -> ImageRequest:
    """Return the request with other words; it starts from the same pictures, if from any."""
    request = _same_inputs(job)
    if prompt.strip() != request.prompt:
        request = request.with_changes(rewritten="", unrewritten="")
    return request.with_changes(
        prompt=prompt,
        negative_prompt="" if is_none(negative_prompt) else negative_prompt,
        model_negative="" if says_none(negative_prompt) else request.model_negative,
        seed=seed,
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
    request = request_of(job).without_inputs()
    return request.with_changes(
        seed=picture.seed,
        count=1,
        width=width,
        height=height,
        # Little noise is to be taken away, and each step costs four times as much.
        steps=max(1, round(request.steps / 2)),
        aspect=None,
        quality=None,
        strength=UPSCALE_STRENGTH,
        parent=job.id,
    )


def finished(job: Job, picture: ImageRecord, model: ModelSpec, *wished: str | None) -> ImageRequest:
    """Return the request for a picture that was drawn in few steps, with all of them.

    Seed, words and inputs stay. Of the `wished` qualities the first counts that takes more steps,
    else the model's usual one. Guidance and shift of a Lightning file go with it. Raises
    `InvalidRequest` where there is nothing to finish.
    """
    request = _same_inputs(job)
    if not _unfinished(request, model):
        raise InvalidRequest(_("This picture was drawn with all its steps already."))
    known = [name for name in wished if name and name != FAST and name in model.qualities]
    able = [name for name in known if model.qualities[name].steps > request.steps]
    quality = able[0] if able else model.default_quality
    level, draft = model.qualities[quality], model.qualities.get(FAST)
    lightning = request.shift is not None
    usual = GUIDANCE if lightning or draft is None else draft.guidance
    guidance = level.guidance if request.guidance == usual else request.guidance
    unguided = request.guidance == GUIDANCE_MIN < guidance
    own = tuple(text for text in request.loras if not is_lightning(text.partition(":")[0]))
    return request.with_changes(
        seed=picture.seed,
        count=1,
        steps=level.steps,
        guidance=guidance,
        quality=quality,
        loras=own if lightning else request.loras,
        shift=None if lightning else request.shift,
        reuse=level.reuse,
        cfg_norm=model.cfg_norm and guidance > GUIDANCE_MIN,
        # Without guidance nobody was asked for it.
        model_negative=model.negative if unguided else request.model_negative,
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
