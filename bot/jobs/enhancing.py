"""Prompts that are rewritten first, and by which model; what is drawn of them then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bot.catalogue.models import ModelSpec
from bot.catalogue.writers import rewriter, writer
from bot.domain.job import Job
from bot.domain.request import ImageRequest
from bot.domain.writing import Enhance
from bot.errors import InvalidRequest
from bot.jobs.chosen_model import ModelChoice, Models
from bot.rules.preferences import Defaults
from bot.words import _


def require_writer(
    allowed: Sequence[ModelSpec],
    model: ModelSpec | None = None,
    *,
    offered: Sequence[ModelSpec] = (),
) -> ModelSpec:
    """Return the model that writes, `model` where it can, else one of those that are `allowed`.

    Raises `InvalidRequest` without one; `offered` are all models, by which the sentence is true
    where a server's rules keep one that writes from the user.
    """
    found = writer(allowed, model)
    if found is not None:
        return found
    raise InvalidRequest(
        _("None of this bot's models writes texts.")
        if writer(offered) is None
        else _("None of the models that you may use here writes texts.")
    )


def usual_enhance(
    defaults: Iterable[Defaults], allowed: Sequence[ModelSpec], model: ModelSpec | None = None
) -> Enhance:
    """Return what becomes of a prompt where nothing is said: the first of the defaults.

    It counts for nothing where no model that is `allowed` writes.
    """
    first = next((one.enhance for one in defaults if one.enhance), Enhance.OFF)
    return Enhance(first) if writer(allowed, model) else Enhance.OFF


def written_first(
    request: ImageRequest,
    choice: ModelChoice,
    allowed: Sequence[ModelSpec],
    *,
    pictures: bool = False,
) -> tuple[ImageRequest, str | None]:
    """Return a request that knows which model writes, and the model that its job is submitted with.

    That is the choice, unless its prompt is only rewritten for now: then the model that writes, and
    the request knows which one is to draw. `allowed` are the models that may write; `pictures`
    tells whether it is an instruction for some, which the request may not have yet. Raises
    `InvalidRequest` where none can write that.
    """
    if not request.writes:
        return rewritten_by(request, choice.spec, allowed, pictures=pictures), choice.name
    spec = rewriter(allowed, choice.spec, pictures=pictures)
    if spec is None:
        raise InvalidRequest(_("None of this bot's models writes texts."))
    return request.with_changes(draws_with=choice.name), spec.name


def rewritten_by(
    request: ImageRequest,
    model: ModelSpec,
    allowed: Sequence[ModelSpec],
    *,
    pictures: bool = False,
) -> ImageRequest:
    """Return a request that knows which model rewrites its prompt before `model` draws it.

    It is not rewritten where none of those that are `allowed` writes.
    """
    if not request.rewriting:
        return request
    spec = rewriter(allowed, model, pictures=pictures or bool(request.references))
    if spec is None:
        return request.with_changes(enhance=False)
    return request.with_changes(written_with=spec.name)


def writing_choice(models: Models, name: str | None) -> ModelChoice:
    """Return the model that writes anew what `name` was to write: another where that may not.

    Raises `InvalidRequest` where none can.
    """
    allowed = models.allowed
    own = next((spec for spec in allowed if spec.name == name), None)
    spec = require_writer(allowed, own, offered=models.offered)
    return ModelChoice(spec, spec.name)


def to_draw(job: Job, prompt: str | None = None) -> ImageRequest:
    """Return the request for what a job had rewritten, with none of its job's files.

    It is drawn from the rewritten prompt, or from `prompt`, which somebody typed instead.
    """
    request = job.request.with_changes(
        writes="",
        draws_with=None,
        enhance=False,
        unrewritten="",
        input_image=None,
        references=(),
        mask=None,
    )
    if prompt is not None:
        return request.with_changes(prompt=prompt, rewritten="")
    return request.with_changes(rewritten=job.text or "")
