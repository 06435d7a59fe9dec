"""The status of a waiting or running job: what its message says about where it stands."""

from __future__ import annotations

from typing import Final

from bot.jobs.feed import JobUpdate
from bot.jobs.outlook import Awaited, QueuePlace
from bot.messages.text import expected, safe
from bot.words import _, mark, ngettext

_BAR_CELLS: Final = 12
_STARTS: Final = {
    Awaited.NOW: mark("⏳ Starting…"),
    Awaited.LOADING: mark("⏳ Next: the model is loaded first"),
    Awaited.CHANGE: mark("⏳ Next: another model makes room first"),
    Awaited.PICTURE: mark("⏳ Next: starts when the picture before it is done"),
    Awaited.ENGINE: mark("⏳ Next: waits until an engine takes jobs again"),
}
# What is left is an estimate; a second more or less would only flicker.
_LEFT_ROUNDED_S: Final = 5


def bar(done: float, total: float) -> str:
    """Return a progress bar of a fixed width with the percentage."""
    share = done / total if total else 0.0
    filled = round(share * _BAR_CELLS)
    return f"`{'▰' * filled}{'▱' * (_BAR_CELLS - filled)}` {share:.0%}"


def waiting_status(
    place: QueuePlace | None, paused: str | None, start: Awaited = Awaited.PICTURE
) -> str:
    """Say where the job stands in the queue; None: it is not known yet.

    `start` is what it waits for once it is next.
    """
    if place is None:
        line = _("⏳ In the queue")
    elif place.ahead == 0:
        line = _("⏳ Next") if paused is not None else _(_STARTS[start])
    else:
        line = ngettext(
            "⏳ {count} job ahead in the queue", "⏳ {count} jobs ahead in the queue", place.ahead
        ).format(count=place.ahead)
    if paused is not None:
        reason = _("⏸️ the queue is paused: {reason}").format(reason=safe(_(paused), 200))
        return f"{line} · {reason}"
    if place is not None and place.starts_at is not None and place.ahead:
        time = expected(place.starts_at)
        starts = _("starts about {time}").format(time=time) if time else _("starts any moment")
        return f"{line} · {starts}"
    return line


def progress_status(
    update: JobUpdate, *, load_s: float | None = None, left_s: float | None = None
) -> str:
    """Say what the running job is doing.

    `load_s` is how long loading the model usually takes, `left_s` how long the steps that are left
    will take; None: unknown.
    """
    if update.kind == "loading":
        share = f" {update.fraction:.0%}" if update.fraction is not None else ""
        stage = safe(_(update.stage), 300)
        if update.model:
            model = safe(update.model, 100)
            line = _("🔁 Switching to {model}: {stage}").format(model=model, stage=stage)
            return line + share
        line = _("📦 Loading the model: {stage}").format(stage=stage) + share
        if load_s is None:
            return line
        usually = _("usually {seconds} s").format(seconds=f"{load_s:.0f}")
        return f"{line} · {usually}"
    if update.kind == "compiling":
        return _("⚙️ Compiling the model for pictures of this kind, once; then it draws")
    if update.kind == "writing":
        # Of a prompt that is drawn afterwards nobody waits for the words.
        return _("✍️ Writing…") if update.total else _("✍️ Rewriting the prompt, then it draws")
    if update.kind in {"step", "preview"} and update.total:
        if update.step >= update.total:
            return _("🎨 Finishing…")
        line = _("🎨 Step {step} of {total}").format(step=update.step, total=update.total)
        line = f"{line} {bar(update.step, update.total)}"
        if left_s is None:
            return line
        rounded = max(1, round(left_s / _LEFT_ROUNDED_S)) * _LEFT_ROUNDED_S
        left = _("about {seconds} s left").format(seconds=rounded)
        return f"{line} · {left}"
    return _("🎨 Starting…")
