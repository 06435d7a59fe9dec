"""Views of jobs: what their key's holder sees of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from bot.domain.job import ImageRecord, Job, JobState
from bot.http.context import ApiContext
from bot.http.links import picture_path
from bot.http.schemas import JobView, PictureView, Usage
from bot.jobs.outlook import QueuePlace
from storage import jobs, usage
from storage.database import Transaction


async def view(context: ApiContext, job: Job) -> JobView:
    """Return a job as its key's holder sees it."""
    return (await views(context, [job]))[0]


async def views(context: ApiContext, found: Sequence[Job]) -> list[JobView]:
    """Return jobs as their key's holder sees them; the places are worked out once for all."""
    is_open = any(not job.state.final for job in found)
    places: Mapping[str, QueuePlace] = (
        (await context.queue.standing.now()).places if is_open else {}
    )

    images, spent = await context.read(partial(_beside, found=found))
    return [
        _view(context, job, places.get(job.id), images.get(job.id, ()), spent.get(job.id))
        for job in found
    ]


async def _beside(
    tx: Transaction, found: Sequence[Job]
) -> tuple[dict[str, list[ImageRecord]], dict[str, float]]:
    """Return the pictures of jobs, and what each has taken."""
    drawn = [job.id for job in found if job.state is JobState.GENERATED]
    images = await jobs.images_of_all(tx, drawn) if drawn else {}
    return images, await usage.spent(tx, [job.id for job in found])


async def usage_of(context: ApiContext, job: Job) -> Usage:
    """Return what a job took of the graphics card until now."""
    spent = await context.read(partial(usage.spent, job_ids=[job.id]))
    return _usage(spent.get(job.id))


def _usage(seconds: float | None) -> Usage:
    return Usage(gpu_seconds=None if seconds is None else round(seconds, 3))


def _view(
    context: ApiContext,
    job: Job,
    place: QueuePlace | None,
    images: Sequence[ImageRecord],
    spent_s: float | None,
) -> JobView:
    request = job.request
    latest = context.queue.feed.latest(job.id)
    step = latest.step if latest else 0
    place = None if job.state.final else place
    return JobView(
        id=job.id,
        kind="text" if request.writes else "picture",
        state=job.state.value,
        model=job.model or context.default.name,
        width=request.width,
        height=request.height,
        seed=request.seed,
        num_inference_steps=request.steps,
        count=request.pictures,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        ahead=place.ahead if place else None,
        starts_at=place.starts_at if place else None,
        ends_at=place.ends_at if place else None,
        step=request.steps if job.state is JobState.GENERATED and not request.writes else step,
        stage=(latest.stage or None) if latest else None,
        error=job.error,
        usage=_usage(spent_s),
        images=[
            PictureView(
                url=context.address(picture_path(job.id, image.position)),
                position=image.position,
                width=image.width,
                height=image.height,
                seed=image.seed,
                size_bytes=image.size_bytes,
                sha256=image.sha256,
            )
            for image in images
            if job.deleted_at is None
        ],
        text=job.text,
        revised_prompt=None if job.deleted_at is not None else request.rewritten or None,
        status_url=context.address(f"/api/v1/jobs/{job.id}"),
        events_url=context.address(f"/api/v1/jobs/{job.id}/events"),
    )
