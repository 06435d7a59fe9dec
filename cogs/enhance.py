"""The choice under a rewritten prompt: draw it, change it, or draw what was typed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import discord
from typing_extensions import override

from bot.client.accept import Gathered
from bot.client.asking import InputSource, defaults_of, editing_choice, loras_of, models_for
from bot.client.bot import ImageBot
from bot.client.controls import Control
from bot.client.editing import require_right_to_change
from bot.client.forms import Form, FormValues, text_field, unreadable
from bot.client.jobs import known_job
from bot.domain.ids import JOB_ID_PATTERN, is_job_id
from bot.domain.job import Job
from bot.domain.request import ImageRequest
from bot.domain.writing import Writing
from bot.errors import InvalidRequest
from bot.jobs.enhancing import to_draw
from bot.words import _

_TARGET = rf"(?P<job>{JOB_ID_PATTERN})"


async def _rewritten(interaction: discord.Interaction[Any], bot: ImageBot, job_id: str) -> Job:
    """Return the job whose prompt was rewritten; raise `UserError` where it is none, or gone."""
    job = await known_job(bot, job_id, interaction.user.id, interaction.channel_id)
    if job.request.writes != Writing.ENHANCE or job.text is None or not job.readable:
        raise InvalidRequest(_("This prompt can no longer be drawn; please ask again."))
    return job


async def _draw(
    interaction: discord.Interaction[Any], bot: ImageBot, job: Job, request: ImageRequest
) -> None:
    """Accept what is made of a rewritten prompt, from the same pictures, by the model chosen."""
    await require_right_to_change(interaction, bot, job)
    models = await models_for(interaction, bot)
    defaults = await defaults_of(bot, interaction.user.id, interaction.guild_id)
    choice = models.again(job.request.draws_with, defaults)
    inputs = None
    if job.request.references or job.request.input_image is not None:
        read = partial(bot.services.gallery.read_inputs, job)
        inputs = InputSource(read, bool(job.request.references))
    if inputs is not None and inputs.edits:
        choice = editing_choice(models, choice)
    (await loras_of(bot, choice.spec)).require(request)

    async def gather() -> Gathered:
        assert inputs is not None
        return Gathered(request, await inputs.read())

    await bot.services.intake.from_interaction(
        interaction, request, model=choice.name, gather=None if inputs is None else gather
    )


class DrawButton(Control, template=rf"draw:{_TARGET}"):
    """Draws the rewritten prompt."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await _rewritten(interaction, bot, self.state["job"])
        await _draw(interaction, bot, job, to_draw(job))


class OwnButton(Control, template=rf"own:{_TARGET}"):
    """Draws what was typed."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await _rewritten(interaction, bot, self.state["job"])
        await _draw(interaction, bot, job, to_draw(job, job.request.prompt))


class RewrittenForm(Form, name="rewritten"):
    """The rewritten prompt, to be changed. The state is the job's id."""

    def __init__(self, state: str = "", prompt: str = "") -> None:
        super().__init__(state)
        self._prompt = prompt

    @override
    def title(self) -> str:
        return _("The prompt, rewritten")

    @override
    def fields(self) -> Sequence[discord.ui.Label[Any]]:
        about = _("It is drawn as it stands here.")
        return [text_field("prompt", _("Prompt"), self._prompt, about=about)]

    @override
    async def submitted(
        self, interaction: discord.Interaction[Any], bot: ImageBot, values: FormValues
    ) -> None:
        if not is_job_id(self.state):
            raise unreadable()
        job = await _rewritten(interaction, bot, self.state)
        text = values.texts["prompt"].strip()
        same = bool(job.text) and text == job.text
        await _draw(interaction, bot, job, to_draw(job) if same else to_draw(job, text))


class ChangeButton(Control, template=rf"change:{_TARGET}"):
    """Opens the rewritten prompt in a form."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await _rewritten(interaction, bot, self.state["job"])
        await require_right_to_change(interaction, bot, job)
        await RewrittenForm(job.id, job.text or job.request.prompt).open(interaction)


async def setup(bot: ImageBot) -> None:
    """Add the buttons."""
    bot.add_dynamic_items(DrawButton, OwnButton, ChangeButton)
