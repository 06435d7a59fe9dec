"""Lines about the queue: open jobs, a pause, a drain, what the engine does."""

from __future__ import annotations

from typing import Final

from bot.domain.job import Job, JobState
from bot.jobs.outlook import QueuePlace
from bot.messages.text import expected, safe
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


WRITES: Final = {
    "enhance": mark("✍️ prompt to rewrite"),
    "describe": mark("✍️ picture to describe"),
    "alt": mark("✍️ alternative text"),
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


def describe(
    number: int,
    job: Job,
    place: QueuePlace | None,
    reader_id: int,
    model: str = "",
    url: str | None = None,
) -> str:
    """Return one line about an open job; a private prompt is shown to its owner alone.

    `model` is the name that is shown of what draws it; "" shows none. `url` leads to its message;
    None: the line ends with the job's id instead.
    """
    hidden = job.request.private and job.user_id != reader_id
    prompt = _("(private)") if hidden else " ".join(safe(job.request.prompt, PROMPT_SHOWN).split())
    word = _("message")
    end = f"`{job.id}`" if url is None else f"[{word}]({url})"
    kind = _(WRITES[job.request.writes]) if job.request.writes in WRITES else ""
    parts = [kind, prompt, safe(model, PROMPT_SHOWN), _stands(job, place), end]
    return f"**{number}.** {' · '.join(part for part in parts if part)}"


def _stands(job: Job, place: QueuePlace | None) -> str:
    """Say where a job stands, by what does not become untrue as time goes on."""
    if job.cancel_requested_at is not None:
        return _("stops at the next step")
    if job.state is JobState.RUNNING:
        if job.request.writes:
            return _("writing now")
        if place is None or place.ends_at is None:
            return _("drawing now")
        if time := expected(place.ends_at):
            return _("drawing now, done about {time}").format(time=time)
        return _("drawing now, done any moment")
    if place is None:
        return _("ending")
    when = _("next")
    if place.ahead:
        when = ngettext("{count} ahead", "{count} ahead", place.ahead).format(count=place.ahead)
    if place.starts_at is None:
        return when
    if time := expected(place.starts_at):
        return _("{place}, starts about {time}").format(place=when, time=time)
    # What is next starts any moment anyway, unless the queue is paused.
    return _("{place}, starts any moment").format(place=when) if place.ahead else when
