"""Edits by words: of a picture of the bot's, of a message's, or of one that was sent along.

Who may edit what, which model can, the size and the region: the same for the command, the button,
the menu and a reply.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import discord

from bot.catalogue.writers import rewriter
from bot.client.accept import Gathered, PictureSource, author_roles, roles_of
from bot.client.asking import defaults_of, editing_choice, models_of, surroundings
from bot.client.bot import ImageBot
from bot.client.edit_sources import Source
from bot.domain.job import Job
from bot.domain.request import ImageRequest
from bot.domain.writing import Enhance
from bot.errors import InvalidRequest
from bot.jobs.chosen_model import ModelChoice
from bot.jobs.compose import Asked, compose
from bot.jobs.editing import require_editor as require_able
from bot.jobs.editing import sized_after
from bot.jobs.enhancing import written_first
from bot.messages.command_mentions import linked
from bot.pictures.headers import picture_shape
from bot.regions.process import BrokenPictureError, FoundRegion, RegionSearchError
from bot.rules.edit_rules import EditRules, Whose
from bot.words import _
from storage.input_pictures import GivenInputs

log = logging.getLogger(__name__)

_NO_STYLE: Final = "none"


@dataclass(frozen=True, slots=True)
class Instruction:
    """What is to be done to pictures; None is left to defaults.

    The first of `sources` is the one that is edited. `region` is a name out of
    `bot.regions.named.NAMES`. `marked` fetches what may be a copy of it that somebody drew on, or a
    mask; where it is neither, it is one picture more.
    """

    text: str
    sources: Sequence[Source]
    region: str | None = None
    marked: PictureSource | None = None
    count: int = 1
    seed: int | None = None
    quality: str | None = None
    private: bool | None = None
    model: str | None = None
    enhance: str | None = None
    """What becomes of the text before it is drawn, an `Enhance`."""


@dataclass(frozen=True, slots=True)
class _Editor:
    """Who edits, and where."""

    user_id: int
    guild_id: int | None
    roles: frozenset[int]


async def edit_here(
    interaction: discord.Interaction[Any], bot: ImageBot, instruction: Instruction
) -> None:
    """Accept an edit by an interaction; raise `UserError` where it is refused."""
    who = _Editor(interaction.user.id, interaction.guild_id, roles_of(interaction))
    (request, name), choice = await _composed(bot, who, instruction)
    await bot.services.intake.from_interaction(
        interaction,
        request,
        model=name,
        gather=partial(_gather, bot, instruction, request, choice),
    )


async def edit_by_message(
    message: discord.Message, bot: ImageBot, instruction: Instruction
) -> None:
    """Accept an edit by a message; raise `UserError` where it is refused."""
    guild_id = message.guild.id if message.guild else None
    who = _Editor(message.author.id, guild_id, author_roles(message))
    (request, name), choice = await _composed(bot, who, instruction)
    if request.private and guild_id is not None:
        raise InvalidRequest(
            linked(
                _(
                    "This edit would be private, and all can read a channel: use /edit, or the "
                    "button under the picture."
                )
            )
        )
    await bot.services.intake.from_message(
        message,
        request,
        model=name,
        gather=partial(_gather, bot, instruction, request, choice),
    )


async def edit_rules_of(bot: ImageBot, guild_id: int) -> EditRules:
    """Return what a server has set about whose pictures may be edited."""
    return EditRules.read(await bot.services.preferences.remembered.get("guilds", guild_id))


async def require_editor(
    interaction: discord.Interaction[Any], bot: ImageBot, source: Source
) -> None:
    """Raise `UserError` where this user cannot edit that picture: before anything is typed."""
    who = _Editor(interaction.user.id, interaction.guild_id, roles_of(interaction))
    await _require_right(bot, who, source.whose)
    await _choice(bot, who, None, source.job)


async def require_right(
    interaction: discord.Interaction[Any], bot: ImageBot, source: Source
) -> None:
    """Raise `NotAllowed` where the server's rule keeps that picture from this user."""
    who = _Editor(interaction.user.id, interaction.guild_id, roles_of(interaction))
    await _require_right(bot, who, source.whose)


async def require_right_to_change(
    interaction: discord.Interaction[Any], bot: ImageBot, job: Job
) -> None:
    """Raise `NotAllowed` where the server's rule keeps what an edit was made of from this user.

    Other words for another one's edit are an edit of that one's picture.
    """
    if not job.request.references or job.user_id == interaction.user.id:
        return
    who = _Editor(interaction.user.id, interaction.guild_id, roles_of(interaction))
    await _require_right(bot, who, Whose.BOTS)


async def _require_right(bot: ImageBot, who: _Editor, whose: Whose) -> None:
    if who.guild_id is None:
        return  # Nobody sets rules there.
    rules = await edit_rules_of(bot, who.guild_id)
    rules.require(whose, who.guild_id, who.roles)


async def _choice(bot: ImageBot, who: _Editor, asked: str | None, job: Job | None) -> ModelChoice:
    """Return the model that edits: the one asked for, the picture's own, or one that can."""
    models = await models_of(bot, who.guild_id, who.roles)
    defaults = await defaults_of(bot, who.user_id, who.guild_id)
    able = [spec.name for spec in models.allowed if spec.references]
    if asked is None and job is not None and job.model in able:
        return models.again(job.model, defaults)
    return editing_choice(models, models.choose(asked, defaults), asked=asked is not None)


async def _composed(
    bot: ImageBot, who: _Editor, instruction: Instruction
) -> tuple[tuple[ImageRequest, str | None], ModelChoice]:
    """Return the request, the model that its job is submitted with, and the one that edits."""
    first = instruction.sources[0]
    await _require_right(bot, who, max(source.whose for source in instruction.sources))
    choice = await _choice(bot, who, instruction.model, first.job)
    require_able(choice.spec, len(instruction.sources), bot.services.models)
    models = await models_of(bot, who.guild_id, who.roles)
    around = await surroundings(bot, models, choice.spec, who.user_id, who.guild_id)
    enhance = instruction.enhance
    if enhance is None and rewriter(models.allowed, choice.spec, pictures=True) is None:
        enhance = Enhance.OFF  # A default counts for nothing where no model writes of pictures.
    private = instruction.private
    if private is None and first.job is not None and first.job.request.private:
        private = True
    asked = Asked(
        instruction.text,
        quality=instruction.quality,
        count=instruction.count,
        seed=instruction.seed,
        # An instruction is no description: a style and praise of its quality would be drawn.
        style=_NO_STYLE,
        private=private,
        enhance=enhance,
        parent=None if first.job is None else first.job.id,
    )
    request = compose(asked, replace(around, suffix=False)).with_changes(aspect=None)
    return written_first(request, choice, models.allowed, pictures=True), choice


async def _gather(
    bot: ImageBot, instruction: Instruction, request: ImageRequest, choice: ModelChoice
) -> Gathered:
    """Fetch the pictures, and find the region."""
    pictures = [await source.fetch() for source in instruction.sources]
    region = await _region(bot, instruction, pictures, choice)
    shape = await asyncio.to_thread(picture_shape, pictures[0])
    given = GivenInputs(references=tuple(pictures), mask=None if region is None else region.mask)
    spec = choice.spec
    if shape is None:
        width, height = spec.sizes[spec.default_aspect]
        shaped = request.with_changes(width=width, height=height)
    else:
        shaped = sized_after(request, shape, spec, kept=region is not None)
    return Gathered(shaped, given, None if region is None else region.preview)


async def _region(
    bot: ImageBot, instruction: Instruction, pictures: list[bytes], choice: ModelChoice
) -> FoundRegion | None:
    """Return the region that is marked or named; a copy that is neither joins the pictures."""
    regions = bot.services.regions
    try:
        if instruction.marked is not None:
            copy = await instruction.marked()
            found = await regions.marked(pictures[0], copy)
            if found is not None:
                return found
            pictures.append(copy)
            require_able(choice.spec, len(pictures), bot.services.models)
        if instruction.region is None:
            return None
        named = await regions.named(pictures[0], instruction.region)
    except BrokenPictureError as error:
        # What the engine says of it where no region is asked for.
        raise InvalidRequest(_("The picture to start from is broken.")) from error
    except RegionSearchError as error:
        log.warning("a region could not be searched for: %s", error)
        raise InvalidRequest(
            _("The region could not be looked for just now. Please try again.")
        ) from error
    if named is None:
        raise InvalidRequest(
            _(
                "I cannot tell the background of this picture from the rest. Draw around what is "
                "to change on a copy of it, and send that in a reply."
            )
        )
    return named
