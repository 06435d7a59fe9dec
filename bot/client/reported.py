"""The pictures of a report: what a picture was made from, beside the picture."""

from __future__ import annotations

import logging

from bot.client.bot import ImageBot
from bot.domain.job import Job
from bot.errors import JobNotFound
from bot.messages.upload import Upload
from bot.regions.process import RegionSearchError
from bot.words import _

log = logging.getLogger(__name__)

_MOST = 4
"""References that are shown, before the first picture of the result."""


async def reported_pictures(bot: ImageBot, job: Job) -> list[Upload]:
    """Return small copies of a job's sources, in order, and of its first picture, covered.

    Nothing where it was made from words alone: the message shows the result. What is gone or cannot
    be read is left out. They are unpacked in a process of their own, and lose all but their pixels.
    """
    services = bot.services
    request = job.request
    if request.input_image is None and not request.references:
        return []
    sources: list[bytes] = []
    try:
        given = await services.gallery.read_inputs(job)
        sources += given.references or (() if given.image is None else (given.image,))
    except JobNotFound:
        log.info("job %s: what it was made from is gone", job.id)
    shown = sources[:_MOST]
    try:
        shown.append(await services.gallery.read(await services.gallery.picture(job, 0)))
    except JobNotFound:
        log.info("job %s: its picture is gone", job.id)
    alt = _("What it was made from, in order, then the picture")
    uploads: list[Upload] = []
    for number, data in enumerate(shown, 1):
        try:
            small = await services.regions.small(data)
        except RegionSearchError as error:
            log.warning("a reported picture could not be made smaller: %s", error)
            continue
        if small is not None:
            uploads.append(Upload(f"{job.id}_{number}.jpg", small, alt, spoiler=True))
    return uploads
