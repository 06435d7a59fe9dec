"""Lines about the queue: open jobs, a pause, a drain, what the engine does."""

from __future__ import annotations

from typing import Final

from bot.domain.job import Job, JobState
from bot.jobs.schedule import QueuePlace
from bot.messages.text import safe
from bot.words import _, mark, ngettext

MOST_SHOWN = 10

ENGINE_STATES: Final = {
    "stopped": mark("the model is not loaded"),
    "starting": mark("the engine starts"),
    "loading": mark("the model is being loaded"),
    "idle": mark("the graphics card is free"),
    "busy": mark("the graphics card is drawing"),
    "backoff": mark("the engine starts again"),
}


# Escaping may double what is shown; with ten lines all of it has to fit into one message.
PROMPT_SHOWN = 40


def pause_line(reason: str) -> str:
    """Say that the queue is paused, and why."""
    return _("⏸️ The queue is paused: {reason}").format(reason=safe(_(reason), 100))


def drain_line(reason: str) -> str:
    """Say that nothing new is accepted, and why."""
    return _("🚰 No new requests are taken: {reason}. What is queued is still drawn.").format(
        reason=safe(_(reason), 100)
    )


def describe(job: Job, place: QueuePlace | None, reader_id: int) -> str:
    """Return one line about an open job; a private prompt is shown to its owner alone."""
    hidden = job.request.private and job.user_id != reader_id
    prompt = _("(private)") if hidden else " ".join(safe(job.request.prompt, PROMPT_SHOWN).split())
    if job.state is JobState.RUNNING:
        when = _("drawing now")
        if place is not None and place.ends_at is not None:
            when = _("drawing now, done {time}").format(time=f"<t:{place.ends_at:.0f}:R>")
    elif place is None:
        when = _("ending")
    else:
        when = _("next")
        if place.ahead:
            when = ngettext("{count} ahead", "{count} ahead", place.ahead).format(count=place.ahead)
        if place.starts_at is not None:
            when = _("{place}, starts {time}").format(
                place=when, time=f"<t:{place.starts_at:.0f}:R>"
            )
    return f"`{job.id}` {prompt} · {when}"
