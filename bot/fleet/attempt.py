"""Attempts at a job: what the engine is asked for, how far it got, and what is kept of it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from bot.catalogue.models import find_model
from bot.domain.job import ImageRecord, Job
from bot.engine.protocol import EngineRequest, Finished, Picture
from bot.errors import EngineError, EngineErrorKind
from bot.jobs.compose import suited
from bot.pictures.parameters_written import png_texts
from bot.rules.verdicts import ImageCheck, Verdict
from storage.images import ImageStore
from storage.plain_files import UntrustedFileError

log = logging.getLogger(__name__)


_INPUT: Final = "input"
_MASK: Final = "mask"


@dataclass(slots=True)
class Attempt:
    """One attempt at a job, as far as it got."""

    job: Job
    began_at: float
    """By the worker's timer, which no correction of the clock moves; seconds."""
    steps: int = 0
    drawn: float = 0.0
    """The share of all steps that are done."""
    total_steps: int = 0
    """As the engine counts them: one pass over the whole batch, or picture by picture."""
    load_s: float = 0.0
    switches_to: str = ""
    """The model that the engine is being switched to for it, if it is."""
    switch_s: float = 0.0
    """What that took, once it has ended, in seconds; 0 where no model was given up for it."""
    pictures: list[Picture] = field(default_factory=list[Picture])
    written: list[str] = field(default_factory=list[str])
    """The pieces of a text, as they came."""
    rewrite_s: float = 0.0
    """What rewriting its prompt took of the card, without a switch; seconds.

    It is charged by itself, when it is done.
    """
    finished: Finished | None = None

    def note_loading(self, now: float) -> None:
        """Note that something is loaded: time counts from its end, and what a switch took.

        A switch is for this job alone. What else is loaded, before anything is done, serves all.
        """
        if not (self.switches_to or self.steps):
            self.began_at = now - self.switch_s


def engine_request(
    job: Job, store: ImageStore, model: str, time_limit_s: float | None
) -> EngineRequest:
    """Return what the engine is asked for to draw a job by `model`.

    Raises `ValueError` if the stored request is damaged.

    Its files are copies in the job's work folder, which `lend_inputs` makes.
    """
    if not job.readable:
        raise ValueError("the stored request cannot be read")
    folder = store.work_dir(job.id)
    request = suited(job.request, find_model(model))
    return EngineRequest(
        job_id=job.id,
        prompt=request.full_prompt,
        negative_prompt=request.full_negative_prompt,
        width=request.width,
        height=request.height,
        steps=request.steps,
        guidance=request.guidance,
        seeds=request.seeds(),
        output_dir=folder,
        texts=png_texts(job.id, request, model),
        input_image=folder / _INPUT if request.input_image else None,
        # An edit begins from noise alone.
        strength=None if request.references else request.strength,
        loras=request.lora_strengths(),
        shift=request.shift,
        cfg_norm=request.cfg_norm,
        reuse=request.reuse,
        mask=folder / _MASK if request.mask else None,
        mask_inverted=request.mask_inverted,
        place=request.place,
        references=tuple(
            folder / f"reference{number}" for number, _ in enumerate(request.references, 1)
        ),
        transparent=request.transparent,
        model=model,
        time_limit_s=time_limit_s,
    )


def lend_inputs(job: Job, store: ImageStore, asked: EngineRequest) -> None:
    """Copy a job's files to where its engine is asked to look for them. Blocking.

    Raises `OSError`; a file that is gone is none, which the engine tells the user.
    """
    request = job.request
    pairs = [(request.input_image, asked.input_image), (request.mask, asked.mask)]
    for name, target in pairs:
        if name is not None and target is not None:
            store.inputs.lend(job.id, name, target)
    lend_references(job, store, asked.references)


def lend_references(job: Job, store: ImageStore, targets: Sequence[Path]) -> None:
    """Copy the pictures that a job speaks of to `targets`, one each. As `lend_inputs`."""
    for name, target in zip(job.request.references, targets, strict=True):
        store.inputs.lend(job.id, name, target)


async def keep(
    store: ImageStore, job_id: str, pictures: Sequence[Picture], check: ImageCheck | None
) -> list[ImageRecord]:
    """Copy the engine's pictures to where they stay, and return what is recorded of them.

    All are kept or none. Raises `OSError` where the disk does not take them, and `EngineError`
    (`GARBLED`) where the engine has exchanged one since it was checked.
    """
    kept: list[ImageRecord] = []
    try:
        for picture in pictures:
            record = await store.keep(
                job_id,
                picture.index,
                picture.path,
                width=picture.width,
                height=picture.height,
                seed=picture.seed,
                sha256=picture.sha256,
            )
            kept.append(record)
    except BaseException as error:
        with contextlib.suppress(OSError):
            await store.drop(kept)
        if isinstance(error, UntrustedFileError):
            detail = f"picture {len(kept)}: {error.strerror}"
            raise EngineError(EngineErrorKind.GARBLED, detail) from error
        raise
    return kept if check is None else await _checked(store, check, kept)


async def _checked(
    store: ImageStore, check: ImageCheck, images: list[ImageRecord]
) -> list[ImageRecord]:
    """Return the pictures with what the image check says; no fault of its own loses a job."""
    try:
        found = await check.look([(store.path(image), image.sha256) for image in images])
        pairs = list(zip(images, found, strict=True))
    except Exception:
        log.exception("the image check failed; the pictures count as not checked")
        return [replace(image, verdict=Verdict.FAILED) for image in images]
    return [replace(image, verdict=result.verdict, score=result.score) for image, result in pairs]
