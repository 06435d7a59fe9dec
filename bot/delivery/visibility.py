"""Visibility: how openly a picture may be shown in a place, as every way of posting one asks."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import discord

from bot.domain.job import ImageRecord, Job
from bot.errors import NotAllowed
from bot.rules.preferences import Preferences
from bot.rules.verdicts import Exposure, ImageCheck, Verdict, is_flagged
from bot.words import _, mark

log = logging.getLogger(__name__)

_FLAGGED: Final[Mapping[Exposure, str]] = {
    Exposure.SPOILER: mark(
        "🙈 Behind a spoiler: the automatic image check takes this for adult content."
    ),
    Exposure.DM: mark(
        "📬 Sent to you by direct message: the automatic image check takes this for adult content, "
        "which this server keeps out of the channel."
    ),
    Exposure.BLOCK: mark(
        "🚫 Not shown: the automatic image check takes this for adult content, which this server "
        "does not allow here."
    ),
}
_UNCHECKED: Final[Mapping[Exposure, str]] = {
    Exposure.SPOILER: mark("🙈 Behind a spoiler: the automatic image check did not work."),
    Exposure.DM: mark(
        "📬 Sent to you by direct message: the automatic image check did not work, and this server "
        "keeps unchecked pictures out of the channel."
    ),
    Exposure.BLOCK: mark(
        "🚫 Not shown: the automatic image check did not work, and this server does not allow "
        "unchecked pictures here."
    ),
}


_REFUSED: Final = mark(
    "🚫 Not drawn: the automatic image check takes a picture that this starts from for adult "
    "content, which this server does not allow here."
)
_REFUSED_UNCHECKED: Final = mark(
    "🚫 Not drawn: the automatic image check did not work, and this server does not allow "
    "unchecked pictures here."
)


@dataclass(frozen=True, slots=True)
class ShownIn:
    """Where a picture is to be shown; `alone`: to its owner only."""

    guild_id: int | None = None
    channel_id: int | None = None
    parent_channel_id: int | None = None
    alone: bool = False

    @classmethod
    def of_job(cls, job: Job) -> Self:
        """Return where a job was asked for."""
        return cls(job.guild_id, job.channel_id, job.parent_channel_id, job.request.private)

    @classmethod
    def of(cls, interaction: discord.Interaction[Any], *, alone: bool) -> Self:
        """Return where an interaction is answered."""
        parent_id: int | None = getattr(interaction.channel, "parent_id", None)
        return cls(interaction.guild_id, interaction.channel_id, parent_id, alone)


DIRECT: Final = ShownIn(alone=True)
"""The direct messages with the picture's owner."""


class Visibility:
    """Decides by the verdicts, the server's policy and the channel, each as they are now."""

    def __init__(
        self, client: discord.Client, preferences: Preferences, check: ImageCheck | None = None
    ) -> None:
        self._client = client
        self._preferences = preferences
        self._check = check

    async def exposure(self, job: Job, images: Sequence[ImageRecord], place: ShownIn) -> Exposure:
        """Return how openly these pictures of a job may be shown in a place.

        What the server where they were asked for blocks comes through no other door either.
        """
        if not is_flagged(images):
            return Exposure.ALLOW
        if await self._chosen(ShownIn.of_job(job)) is Exposure.BLOCK:
            return Exposure.BLOCK
        return await self._chosen(place)

    async def shows_unfinished(self, job: Job) -> bool:
        """Tell whether unfinished pictures may be shown: no check has seen them yet."""
        return self._check is None or await self._chosen(ShownIn.of_job(job)) is Exposure.ALLOW

    async def require_sources(self, place: ShownIn, pictures: Sequence[tuple[Path, str]]) -> bool:
        """Look at what a job starts from, as at results; tell whether it may be shown openly.

        `pictures` are as `ImageCheck` has them. Raises `NotAllowed` where the server blocks them.
        Where all may be shown, nothing is looked at.
        """
        if self._check is None or not pictures:
            return True
        chosen = await self._chosen(place)
        if chosen is Exposure.ALLOW:
            return True
        try:
            verdicts = {one.verdict for one in await self._check.look(pictures)}
        except Exception:
            log.exception("the image check failed; the pictures count as not checked")
            verdicts = {Verdict.FAILED}
        if verdicts == {Verdict.CLEAR}:
            return True
        if chosen is Exposure.BLOCK:
            raise NotAllowed(_(_REFUSED if Verdict.FLAGGED in verdicts else _REFUSED_UNCHECKED))
        return False

    async def _chosen(self, place: ShownIn) -> Exposure:
        policy = await self._preferences.policy(place.guild_id)
        return policy.exposure(restricted=self._is_restricted(place), alone=place.alone)

    def _is_restricted(self, place: ShownIn) -> bool:
        """Tell whether Discord shows the place to adults only; False where that is not known."""
        for channel_id in (place.channel_id, place.parent_channel_id):
            channel = self._client.get_channel(channel_id) if channel_id else None
            # A thread is as its parent; a direct message has no such flag.
            if channel is not None and hasattr(channel, "is_nsfw"):
                return bool(channel.is_nsfw())  # pyright: ignore[reportAttributeAccessIssue,reportUnknownMemberType,reportUnknownArgumentType]
        return False


def why(exposure: Exposure, images: Sequence[ImageRecord]) -> str:
    """Return the sentence that tells why pictures are not shown as usual."""
    flagged = any(image.verdict == Verdict.FLAGGED for image in images)
    return _((_FLAGGED if flagged else _UNCHECKED)[exposure])
