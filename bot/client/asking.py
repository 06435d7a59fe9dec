"""Requests as people make them: composed with what holds where they ask, or made from a job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import discord

from bot.catalogue.loras import Loras
from bot.catalogue.models import MODELS, ModelSpec
from bot.client.accept import Gathered, PictureSource, Sizes, interaction_origin, roles_of
from bot.client.answers import reply_privately
from bot.client.bot import ImageBot
from bot.domain.job import ImageRecord, Job
from bot.domain.request import ImageRequest
from bot.domain.writing import Enhance
from bot.errors import InvalidRequest
from bot.jobs import derive
from bot.jobs.chosen_model import ModelChoice, Models
from bot.jobs.compose import Asked, Surroundings, compose, no_transparency
from bot.jobs.editing import editor, no_editing
from bot.jobs.enhancing import rewritten_by, usual_enhance, writing_choice, written_first
from bot.jobs.flags import read_flags
from bot.messages.text import safe
from bot.rules.preferences import Defaults
from bot.words import _
from storage.input_pictures import GivenInputs

STRENGTH_MIN: Final = 0.05
_UNREAD_SHOWN: Final = 300


@dataclass(frozen=True, slots=True)
class Wish:
    """A composed request.

    `model` is what its job is submitted with. Of `sizes`, if any, a picture to start from takes
    that of its own shape.
    """

    request: ImageRequest
    model: str | None = None
    sizes: Sizes | None = None
    unread: tuple[str, ...] = ()
    """Midjourney's flags that were left out of the prompt, since nothing reads them."""

    def left_out(self) -> str:
        """Return a quiet line that names what was left out; "" where nothing was."""
        if not self.unread:
            return ""
        named = safe(" ".join(self.unread), _UNREAD_SHOWN)
        return _("-# Left out, since this bot does not know it: {flags}").format(flags=named)


def editing_choice(models: Models, choice: ModelChoice, *, asked: bool = False) -> ModelChoice:
    """Return the model that edits: `choice` where it can, else the first that may be used there.

    `asked`: somebody named the choice, so that no other is taken for it. Raises `InvalidRequest`
    where none can, `ModelRefused` where those that can may not be used.
    """
    if choice.spec.references:
        return choice
    if not asked and (found := editor(models.allowed)) is not None:
        return ModelChoice(found, found.name)
    able = editor(models.offered)
    if able is not None and not asked:
        models.require(able)
    raise InvalidRequest(no_editing(choice.spec, models.offered))


@dataclass(frozen=True, slots=True)
class InputSource:
    """What fetches the files that a job starts from; `edits` tells whether it is an edit by words.

    `read` raises `UserError` where they cannot be had.
    """

    read: Callable[[], Awaitable[GivenInputs]]
    edits: bool = False


async def models_for(interaction: discord.Interaction[Any], bot: ImageBot) -> Models:
    """Return the models with what the user of an interaction may use of them there."""
    return await models_of(bot, interaction.guild_id, roles_of(interaction))


async def models_of(bot: ImageBot, guild_id: int | None, roles: frozenset[int]) -> Models:
    """Return the models with what somebody with these roles may use of them in a server."""
    services = bot.services
    rules = await services.preferences.model_rules(guild_id)
    return Models(services.models, rules, roles | {guild_id or 0})


async def choice_for(
    interaction: discord.Interaction[Any], bot: ImageBot, text: str | None
) -> ModelChoice:
    """Return the model that `text` means, else the user's default, the server's, the configured.

    Raises `InvalidRequest` or `ModelRefused`.
    """
    models = await models_for(interaction, bot)
    return await _choice(bot, models, text, interaction.user.id, interaction.guild_id)


async def _choice(
    bot: ImageBot, models: Models, text: str | None, user_id: int, guild_id: int | None
) -> ModelChoice:
    return models.choose(text, await defaults_of(bot, user_id, guild_id))


async def defaults_of(bot: ImageBot, user_id: int, guild_id: int | None) -> list[Defaults]:
    """Return a user's defaults and the server's, in the order in which they count."""
    preferences = bot.services.preferences
    return [await preferences.user(user_id), await preferences.guild(guild_id)]


async def require_room(interaction: discord.Interaction[Any], bot: ImageBot) -> None:
    """Raise the `Refusal` that the smallest request would meet, before a form is opened for it."""
    models = await models_for(interaction, bot)
    defaults = await defaults_of(bot, interaction.user.id, interaction.guild_id)
    # A text, which counts no picture, where prompts are shown rewritten.
    pictures = 0 if usual_enhance(defaults, models.allowed) is Enhance.ASK else 1
    await bot.services.queue.precheck.require(interaction_origin(interaction), pictures=pictures)


async def loras_of(bot: ImageBot, model: ModelSpec) -> Loras:
    """Return the LoRAs that a model can have."""
    return await bot.services.loras_by_model[model.name].known()


async def surroundings(
    bot: ImageBot, models: Models, model: ModelSpec, user_id: int, guild_id: int | None
) -> Surroundings:
    """Return what holds where something is asked of one of the `models`."""
    services = bot.services
    return Surroundings(
        model=model,
        user=await services.preferences.user(user_id),
        guild=await services.preferences.guild(guild_id),
        styles=await services.preferences.styles(guild_id),
        suffix=services.settings.image_prompt_suffix,
        loras=await loras_of(bot, model),
        offered=models.offered,
        allowed=models.allowed,
    )


async def compose_here(interaction: discord.Interaction[Any], bot: ImageBot, asked: Asked) -> Wish:
    """Return what was asked for by an interaction; raise `InvalidRequest` or `ModelRefused`."""
    models = await models_for(interaction, bot)
    return await _wish(bot, models, asked, interaction.user.id, interaction.guild_id)


async def accept_wish(
    interaction: discord.Interaction[Any],
    bot: ImageBot,
    wish: Wish,
    picture: PictureSource | None = None,
) -> None:
    """Accept a composed request; what of its prompt was left out is said once, privately."""
    accepted = await bot.services.intake.from_interaction(
        interaction, wish.request, model=wish.model, picture=picture, sizes=wish.sizes
    )
    if accepted and (line := wish.left_out()):
        await reply_privately(interaction, line)


async def compose_directly(bot: ImageBot, asked: Asked, user_id: int) -> Wish:
    """Return what was asked for by a direct message; raise `InvalidRequest`."""
    models = await models_of(bot, None, frozenset())
    return await _wish(bot, models, asked, user_id, None)


async def _wish(
    bot: ImageBot, models: Models, asked: Asked, user_id: int, guild_id: int | None
) -> Wish:
    choice = await _choice(bot, models, asked.model, user_id, guild_id)
    around = await surroundings(bot, models, choice.spec, user_id, guild_id)
    asked, unread = read_flags(asked, choice.spec)
    sizes = choice.spec.sizes if asked.aspect is None else None
    request, name = written_first(compose(asked, around), choice, models.allowed)
    return Wish(request, name, sizes, unread)


async def reroll(
    interaction: discord.Interaction[Any], bot: ImageBot, job: Job, *, alone: bool = False
) -> None:
    """Ask for a job's pictures again with a new seed; `alone`: for one picture, of a batch too."""
    request = derive.again(job)
    request = request.with_changes(count=1) if alone else request
    await ask(interaction, bot, job, request, source_of(bot, job))


async def model_of(interaction: discord.Interaction[Any], bot: ImageBot, job: Job) -> ModelChoice:
    """Return the model that draws what is made from a job: its own while that is offered.

    Raises `ModelRefused`.
    """
    models = await models_for(interaction, bot)
    defaults = await defaults_of(bot, interaction.user.id, interaction.guild_id)
    return models.again(job.model, defaults)


async def ask(
    interaction: discord.Interaction[Any],
    bot: ImageBot,
    job: Job,
    request: ImageRequest,
    inputs: InputSource | None,
) -> None:
    """Accept a request that was made from a job, by the job's model; `inputs` fetches its files.

    Raises `ModelRefused`, and `InvalidRequest` where its LoRAs are no longer there. Where its model
    is no longer offered another one draws, and its user is told. A text is written by any model
    that may be used there.
    """
    models, gone, clear = await models_for(interaction, bot), None, request.transparent
    if request.writes:
        choice = writing_choice(models, job.model)
    else:
        choice = await model_of(interaction, bot, job)
        if inputs is not None and inputs.edits:
            choice = editing_choice(models, choice)
        gone = None if job.model in {None, choice.spec.name} else job.model
        if gone is not None:
            request = derive.drawn_by(request, choice.spec, MODELS.get(gone))
        (await loras_of(bot, choice.spec)).require(request)
        request = rewritten_by(request, choice.spec, models.allowed)
    accepted = await bot.services.intake.from_interaction(
        interaction,
        request,
        model=choice.name,
        gather=None if inputs is None else partial(_gathered, request, inputs),
    )
    if accepted and gone is not None:
        sentence = _("{gone} is no longer offered; this is drawn by {model}.")
        told = [sentence.format(gone=gone, model=choice.spec.name)]
        if clear and not request.transparent:
            told.append(no_transparency(choice.spec, models.allowed))
        await reply_privately(interaction, " ".join(told))


async def _gathered(request: ImageRequest, inputs: InputSource) -> Gathered:
    return Gathered(request, await inputs.read())


def source_of(bot: ImageBot, job: Job) -> InputSource | None:
    """Return what fetches all that a job started from, if there was anything."""
    request = job.request
    if request.input_image is None and not request.references:
        return None
    edits = bool(request.references) and not request.writes
    return InputSource(partial(bot.services.gallery.read_inputs, job), edits)


def start_of(bot: ImageBot, image: ImageRecord, *, edits: bool = False) -> InputSource:
    """Return what fetches a finished picture, to start from it, or with `edits` to refer to it."""

    async def read() -> GivenInputs:
        data = await bot.services.gallery.read(image)
        return GivenInputs(references=(data,)) if edits else GivenInputs(data)

    return InputSource(read, edits)
