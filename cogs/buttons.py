"""The controls under a job's message; they work after a restart and weeks later.

A control's `custom_id` is `action:job id`, or `action:job id.position` for one picture of a batch,
and that is all the state there is.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import discord
from typing_extensions import override

from bot.client.answers import reply_privately
from bot.client.asking import ask, model_of, reroll, source_of
from bot.client.bot import ImageBot
from bot.client.controls import Control
from bot.client.forms import Form, FormValues, text_field
from bot.client.jobs import CANCEL_SENTENCES, known_job
from bot.client.places import category_of, parent_of
from bot.delivery.errors import FORESEEN
from bot.delivery.visibility import ShownIn, why
from bot.domain.ids import JOB_ID_PATTERN
from bot.errors import JobNotFound, NotAllowed
from bot.jobs import derive
from bot.messages.details import details
from bot.messages.discord_limits import MESSAGE_LENGTH
from bot.rules.verdicts import Exposure
from bot.words import _

_TARGET: Final = rf"(?P<job>{JOB_ID_PATTERN})(\.(?P<position>\d))?"


class JobButton(Control, template=r"$^"):
    """A button about one job, or one picture of it."""

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.state["job"]

    @property
    def position(self) -> int | None:
        """Which picture of a batch; None means the job as a whole."""
        position = self.state["position"]
        return None if position is None else int(position)


class CancelButton(JobButton, template=rf"cancel:{_TARGET}"):
    """Ends a waiting or running job of the user's own; moderators may end any of their server."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await known_job(bot, self.job_id)
        moderator = job.user_id != interaction.user.id and await bot.permissions.may_manage(
            interaction, job
        )
        outcome = await bot.services.queue.cancel(
            job.id, by=interaction.user.id, moderator=moderator
        )
        await reply_privately(interaction, _(CANCEL_SENTENCES[outcome]))


class RerollButton(JobButton, template=rf"reroll:{_TARGET}"):
    """Asks for the same picture with a new seed, at the presser's own cost."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await known_job(bot, self.job_id, interaction.user.id, interaction.channel_id)
        await reroll(interaction, bot, job)


class VaryButton(JobButton, template=rf"vary:{_TARGET}"):
    """Asks for another picture that starts from this one."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        services = bot.services
        job = await known_job(bot, self.job_id, interaction.user.id, interaction.channel_id)
        image = await services.gallery.picture(job, self.position or 0)
        request = derive.varied(job, image)
        if self.position is not None:
            request = request.with_changes(count=1)
        await ask(interaction, bot, job, request, partial(services.gallery.read, image))


class UpscaleButton(JobButton, template=rf"upscale:{_TARGET}"):
    """Asks for this picture at twice its size."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        services = bot.services
        job = await known_job(bot, self.job_id, interaction.user.id, interaction.channel_id)
        image = await services.gallery.picture(job, self.position or 0)
        choice = await model_of(interaction, bot, job)
        request = derive.upscaled(job, image, choice.spec.largest_side)
        await ask(interaction, bot, job, request, partial(services.gallery.read, image))


class EditForm(Form, name="edit"):
    """The prompt of a job, to be changed. The state is the job's id."""

    def __init__(self, state: str = "", prompt: str = "", negative: str = "") -> None:
        super().__init__(state)
        self._prompt = prompt
        self._negative = negative

    @override
    def title(self) -> str:
        return _("Edit the picture")

    @override
    def fields(self) -> Sequence[discord.ui.Label[Any]]:
        return [
            text_field("prompt", _("Prompt"), self._prompt),
            text_field("negative", _("What it should not show"), self._negative, required=False),
        ]

    @override
    async def submitted(
        self, interaction: discord.Interaction[Any], bot: ImageBot, values: FormValues
    ) -> None:
        job = await known_job(bot, self.state, interaction.user.id, interaction.channel_id)
        request = derive.edited(job, values.texts["prompt"], values.texts.get("negative", ""))
        await ask(interaction, bot, job, request, source_of(bot, job))


class EditButton(JobButton, template=rf"edit:{_TARGET}"):
    """Opens the prompt in a form."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await known_job(bot, self.job_id, interaction.user.id, interaction.channel_id)
        request = derive.again(job)
        # Before anything is typed for a model that this user may not use.
        await model_of(interaction, bot, job)
        await EditForm(job.id, request.prompt, request.negative_prompt).open(interaction)


class DetailsButton(JobButton, template=rf"details:{_TARGET}"):
    """Shows every parameter, to be copied."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        services = bot.services
        job = await known_job(bot, self.job_id, interaction.user.id, interaction.channel_id)
        text = details(job, job.model or services.model.name, self.position)
        if len(text) <= MESSAGE_LENGTH:
            await interaction.response.send_message(text, ephemeral=True)
            return
        data = text.encode()
        file = discord.File(io.BytesIO(data), f"{job.id}.txt")
        await interaction.response.send_message(
            _("The details are long, so they come as a file."), file=file, ephemeral=True
        )


class DeleteButton(JobButton, template=rf"delete:{_TARGET}"):
    """Deletes the pictures and the message, for the owner or a moderator."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await bot.services.queue.job(self.job_id)
        if job is None:
            raise JobNotFound(_("This job is no longer known; please ask anew with /imagine."))
        moderator = job.user_id != interaction.user.id and await bot.permissions.may_delete(
            interaction, job
        )
        answers = await bot.services.gallery.delete(
            job, by=interaction.user.id, moderator=moderator, guild_id=interaction.guild_id
        )
        try:
            await interaction.response.defer()
            await interaction.delete_original_response()
        except FORESEEN:
            # The message may be gone already, or kept by Discord; the pictures are deleted.
            await reply_privately(interaction, _("Deleted."))
        pressed = interaction.message.id if interaction.message else None
        for channel_id, message_id in answers:
            if message_id == pressed:
                continue
            # Pressed under `/show`: the answer itself is elsewhere.
            channel = bot.get_partial_messageable(channel_id)
            with contextlib.suppress(*FORESEEN):
                await channel.get_partial_message(message_id).delete()


class PickMenu(Control, template=rf"pick:(?P<job>{JOB_ID_PATTERN})"):
    """Takes one picture out of a batch and shows it by itself."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await known_job(bot, self.state["job"], interaction.user.id, interaction.channel_id)
        # It posts a picture anew, so what holds for asking holds for it.
        await bot.services.blocks.require_unblocked(interaction.user.id, interaction.guild_id)
        await bot.services.preferences.require_open(
            interaction.guild_id,
            interaction.channel_id,
            parent_of(interaction.channel),
            category_of(interaction.channel),
        )
        # Of a menu that this bot has made it is a digit.
        chosen = self.chosen[0]
        position = int(chosen) if re.fullmatch(r"\d", chosen, re.ASCII) else -1
        image = await bot.services.gallery.picture(job, position)
        cards = bot.services.cards
        place = ShownIn.of(interaction, alone=job.request.private)
        exposure = await cards.exposure(job, [image], place)
        if exposure is Exposure.BLOCK:
            raise NotAllowed(why(exposure, [image]))
        # What may not stand in the channel comes to the one who pressed.
        place = replace(place, alone=place.alone or exposure is Exposure.DM)
        reply = await interaction.response.defer(thinking=True, ephemeral=place.alone)
        if reply is not None and reply.message_id and interaction.channel_id and not place.alone:
            # Before anything is shown, so that nothing is shown that could not be deleted.
            await bot.services.gallery.note_posting(
                job.id, interaction.channel_id, reply.message_id
            )
        card = await cards.single(job, image, place)
        await interaction.edit_original_response(
            embed=card.embed, attachments=card.files(), view=card.view()
        )


async def setup(bot: ImageBot) -> None:
    """Register the controls."""
    bot.add_dynamic_items(
        CancelButton,
        RerollButton,
        VaryButton,
        UpscaleButton,
        EditButton,
        DetailsButton,
        DeleteButton,
        PickMenu,
    )
