"""The details of a job: every parameter, to be read and copied."""

from __future__ import annotations

from datetime import UTC, datetime

from bot.catalogue.lightning import is_lightning
from bot.catalogue.models import MODELS
from bot.domain.job import Job
from bot.domain.request import (
    GUIDANCE_MIN,
    TRANSPARENT_AFTER,
    TRANSPARENT_BEFORE,
    ImageRequest,
)
from bot.jobs.compose import suited
from bot.messages.rewriting import rewriting_details
from bot.messages.text import safe
from bot.pictures.parameters_written import png_texts
from bot.words import _


def code_block(text: str) -> str:
    """Return text to be copied, in a block that it cannot end by itself."""
    inert = text.replace("``", "`\u200b`").replace("``", "`\u200b`")
    return f"```\n{inert}\n```"


def details(job: Job, model: str, position: int | None = None, steps: str = "") -> str:
    """Return the parameters as they stand in the PNG, and what else is known, as markdown.

    The model's own negative prompt stands apart, since nobody typed it. `steps` are lines about
    what it was made from, where more is known of that than an id.
    """
    if not job.readable:
        unknown = _("How this was made can no longer be read; another version of the bot noted it.")
        return "\n".join([unknown, *_life(job, steps)])
    # It may have been asked of another model, before a restart.
    request = suited(job.request, MODELS[model]) if model in MODELS else job.request
    texts = png_texts(job.id, request.with_changes(model_negative=""), model)
    parameters = texts[min(position or 0, len(texts) - 1)]["parameters"]
    lines = [code_block(parameters)]
    if request.style:
        lines.append(_("Style: {style}").format(style=safe(request.style, 100)))
    if (lightning := drawn_with_lightning(request)) is not None:
        lines.append(_("Drawn fast, with {file}").format(file=f"`{lightning}`"))
    if request.guidance == GUIDANCE_MIN and request.wished_away:
        lines.append(_("At guidance 1 the negative prompt has no effect."))
    if not request.negative_prompt and (model_negative := request.model_negative.strip()):
        lines.append(
            _("Negative prompt of the model's authors: {text}").format(
                text=safe(model_negative, 500)
            )
        )
    if loras := own_loras(request):
        listed = ", ".join(f"`{name}` ({strength:g})" for name, strength in loras)
        lines.append(_("LoRA: {names}").format(names=listed))
    if request.added:
        lines.append(_("Added to the prompt: {text}").format(text=safe(request.added, 500)))
    lines += rewriting_details(request)
    if request.flags:
        read = _("Read in the prompt: {flags}")
        lines.append(read.format(flags=safe(request.flags, 500)))
    if request.transparent:
        lines.append(
            _("Transparent background, asked for by: {text}").format(
                text=f"{TRANSPARENT_BEFORE} … {TRANSPARENT_AFTER}"
            )
        )
    if request.place is not None:
        width, height = request.place[2:]
        lines.append(
            _("Drawn around a picture, which is {size} in it").format(size=f"{width}x{height}")
        )
    elif request.input_image and not request.references:
        lines.append(
            _("Made from a picture, strength {strength}").format(
                strength=f"{1.0 if request.strength is None else request.strength:g}"
            )
        )
    return "\n".join([*lines, *_life(job, steps)])


def drawn_with_lightning(request: ImageRequest) -> str | None:
    """Return the Lightning file that a request is drawn with, if one is."""
    if request.shift is None:
        return None
    return next((name for name, _strength in request.lora_strengths() if is_lightning(name)), None)


def own_loras(request: ImageRequest) -> list[tuple[str, float]]:
    """Return names and strengths of the LoRAs that were asked for."""
    fast = drawn_with_lightning(request)
    return [(name, strength) for name, strength in request.lora_strengths() if name != fast]


def _life(job: Job, steps: str) -> list[str]:
    """Return what the job's row itself tells: its parent, its times, its id."""
    lines: list[str] = []
    if job.parent_id:
        lines.append(steps or _("Made from the job `{job}`").format(job=job.parent_id))
    if job.timings:
        times = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in job.timings.items())
        lines.append(_("Time: {times}").format(times=times))
    made = datetime.fromtimestamp(job.finished_at or job.created_at, UTC)
    lines.append(_("Job `{job}`, {time}").format(job=job.id, time=f"<t:{made.timestamp():.0f}:f>"))
    return lines
