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
from typing import Any, Final

import discord
from typing_extensions import override

from bot.client.answers import reply_privately
from bot.client.asking import ask, defaults_of, model_of, reroll, source_of, start_of
from bot.client.bot import ImageBot
from bot.client.controls import Control
from bot.client.editing import require_right_to_change
from bot.client.forms import Form, FormValues, text_field
from bot.client.jobs import CANCEL_SENTENCES, known_job
from bot.client.lineage import details_for
from bot.client.showing import post_outcome, require_posting
from bot.delivery.errors import FORESEEN
from bot.delivery.visibility import ShownIn, why
from bot.domain.ids import JOB_ID_PATTERN
from bot.domain.job import Job
from bot.domain.request import SEED_LIMIT, random_seed
from bot.errors import InvalidRequest, JobNotFound, NotAllowed
from bot.jobs import derive
from bot.messages.command_mentions import linked
from bot.messages.discord_limits import MESSAGE_LENGTH
from bot.messages.layout import edit_of
from bot.rules.verdicts import Exposure
from bot.words import _

_SEED_LENGTH: Final = len(str(SEED_LIMIT))
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
        await reroll(interaction, bot, job, alone=self.position is not None)


class VaryButton(JobButton, template=rf"vary:{_TARGET}"):
    """Asks for another picture that starts from this one."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        services = bot.services
        job = await known_job(bot, self.job_id, interaction.user.id, interaction.channel_id)
        image = await services.gallery.picture(job, self.position or 0)
        request = derive.varied(job, image)
        # One press draws one picture, whether it is pressed under the grid or the picture.
        if self.position is not None:
            request = request.with_changes(count=1)
        await ask(interaction, bot, job, request, start_of(bot, image))


class UpscaleButton(JobButton, template=rf"upscale:{_TARGET}"):
    """Asks for this picture at twice its size."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        services = bot.services
        job = await known_job(bot, self.job_id, interaction.user.id, interaction.channel_id)
        image = await services.gallery.picture(job, self.position or 0)
        choice = await model_of(interaction, bot, job)
        request = derive.upscaled(job, image, choice.spec.largest_side)
        await ask(interaction, bot, job, request, start_of(bot, image))


class FinishButton(JobButton, template=rf"finish:{_TARGET}"):
    """Asks for a picture that was drawn in few steps once more, with all of them."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await known_job(bot, self.job_id, interaction.user.id, interaction.channel_id)
        image = await bot.services.gallery.picture(job, self.position or 0)
        choice = await model_of(interaction, bot, job)
        defaults = await defaults_of(bot, interaction.user.id, interaction.guild_id)
        wished = [default.quality for default in defaults]
        request = derive.finished(job, image, choice.spec, *wished)
        await ask(interaction, bot, job, request, source_of(bot, job))


class RemixForm(Form, name="edit"):
    """The prompt of a job, to be changed. The state is the job's id, of one picture its position.

    Its name and that of its button are those of earlier versions, which called it Edit.
    """

    def __init__(
        self, state: str = "", prompt: str = "", negative: str = "", seed: int | None = None
    ) -> None:
        super().__init__(state)
        self._prompt = prompt
        self._negative = negative
        self._seed = "" if seed is None else str(seed)

    @override
    def title(self) -> str:
        return _("Remix the picture")

    @override
    def fields(self) -> Sequence[discord.ui.Label[Any]]:
        return [
            text_field("prompt", _("Prompt"), self._prompt),
            text_field("negative", _("Negative prompt"), self._negative, required=False),
            text_field(
                "seed",
                _("Seed"),
                self._seed,
                required=False,
                about=_("The same seed keeps the composition; leave it empty for another one."),
                longest=_SEED_LENGTH,
            ),
        ]

    @override
    async def submitted(
        self, interaction: discord.Interaction[Any], bot: ImageBot, values: FormValues
    ) -> None:
        job_id, one, _position = self.state.partition(".")
        job = await known_job(bot, job_id, interaction.user.id, interaction.channel_id)
        await require_right_to_change(interaction, bot, job)
        texts = values.texts
        # A form of an earlier version has no seed, and drew with another one.
        seed = _seed(texts.get("seed", ""))
        request = derive.remixed(job, texts["prompt"], texts.get("negative", ""), seed)
        if one:
            request = request.with_changes(count=1)
        await ask(interaction, bot, job, request, source_of(bot, job))


def _seed(text: str) -> int:
    """Return the seed that was typed, or any; raise `InvalidRequest`."""
    digits = text.strip()
    if not digits:
        return random_seed()
    if not re.fullmatch(r"\d+", digits, re.ASCII):
        raise InvalidRequest(
            _("The seed must be a whole number from 0 to {high}.").format(high=SEED_LIMIT - 1)
        )
    return int(digits)


class RemixButton(JobButton, template=rf"edit:{_TARGET}"):
    """Opens the prompt in a form, with the seed that it was drawn with."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await known_job(bot, self.job_id, interaction.user.id, interaction.channel_id)
        request = derive.again(job)
        # Before anything is typed for a model, or about a picture, that this user may not use.
        await model_of(interaction, bot, job)
        await require_right_to_change(interaction, bot, job)
        state, seed = job.id, job.request.seed
        if self.position is not None:
            image = await bot.services.gallery.picture(job, self.position)
            state, seed = f"{job.id}.{self.position}", image.seed
        await RemixForm(state, request.prompt, request.negative_prompt, seed).open(interaction)


class DetailsButton(JobButton, template=rf"details:{_TARGET}"):
    """Shows every parameter, to be copied."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        user_id, channel_id = interaction.user.id, interaction.channel_id
        job = await known_job(bot, self.job_id, user_id, channel_id)
        text = await details_for(bot, job, self.position, user_id, channel_id)
        if len(text) <= MESSAGE_LENGTH:
            await interaction.response.send_message(text, ephemeral=True)
            return
        data = text.encode()
        file = discord.File(io.BytesIO(data), f"{job.id}.txt")
        await interaction.response.send_message(
            _("The details are long, so they come as a file."), file=file, ephemeral=True
        )


class DeleteButton(JobButton, template=rf"delete:{_TARGET}"):
    """Deletes the pictures and the message, for the owner or a moderator.

    Under one picture of a batch it takes that message away alone, for whoever took it out, too.
    """

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await bot.services.queue.job(self.job_id)
        if job is None:
            raise JobNotFound(
                linked(_("I can't find this job any more. Please start again with /imagine."))
            )
        moderator = job.user_id != interaction.user.id and await bot.permissions.may_delete(
            interaction, job
        )
        if self.position is not None:
            await _take_away(interaction, job, moderator=moderator)
            return
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


async def _take_away(interaction: discord.Interaction[Any], job: Job, *, moderator: bool) -> None:
    """Remove the message of one picture of a batch; raise `NotAllowed`."""
    shown = interaction.message
    taken_by = shown.interaction_metadata.user.id if shown and shown.interaction_metadata else None
    if interaction.user.id not in {job.user_id, taken_by} and not moderator:
        raise NotAllowed(
            _(
                "Only the person who asked for this picture or took it out, or a moderator, "
                "can remove it."
            )
        )
    await interaction.response.defer()
    with contextlib.suppress(*FORESEEN):  # It may be gone already.
        await interaction.delete_original_response()


class PickControl(JobButton, template=rf"pick:{_TARGET}"):
    """Takes one picture out of a batch and shows it by itself.

    A button for each; under the grids of earlier versions it is a menu.
    """

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await known_job(bot, self.job_id, interaction.user.id, interaction.channel_id)
        await require_posting(interaction, bot)
        position = self.position
        if position is None:
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
        await interaction.edit_original_response(**edit_of(card))


class PostButton(JobButton, template=rf"post:{_TARGET}"):
    """Posts pictures that their owner looks at alone, also private ones, in the channel."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await known_job(bot, self.job_id)
        if job.user_id != interaction.user.id:
            raise NotAllowed(_("Only the person who asked for this picture can post it."))
        await require_posting(interaction, bot)
        await post_outcome(interaction, bot, job)


async def setup(bot: ImageBot) -> None:
    """Register the controls."""
    bot.add_dynamic_items(
        CancelButton,
        RerollButton,
        VaryButton,
        UpscaleButton,
        FinishButton,
        RemixButton,
        DetailsButton,
        DeleteButton,
        PickControl,
        PostButton,
    )
