"""The pictures that a message shows, wherever Discord puts them.

They may be attached, shown by an embed (a link's preview too) or by a component, and all of that
also within a message that was forwarded, which is empty itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Protocol

import discord

from bot.client.accept import PictureSource
from bot.client.attachments import Fetcher, check_attachment, may_be_picture, says_picture
from bot.errors import InvalidRequest
from bot.messages.components import every
from bot.words import _


class Media(Protocol):
    """A picture by its address, in an embed or a component."""

    @property
    def url(self) -> str | None:
        """Where it lies, anywhere in the world."""

    @property
    def proxy_url(self) -> str | None:
        """Where Discord's copy of it lies."""


def first_picture(message: discord.Message, fetcher: Fetcher) -> PictureSource:
    """Return what fetches a message's first picture; raise `InvalidRequest` where there is none.

    What says that it is a picture goes before what says nothing of itself.
    """
    shown = [message, *message.message_snapshots]
    attachments = [attachment for part in shown for attachment in part.attachments]
    media = [picture for part in shown for picture in _media(part)]
    for attachment in filter(says_picture, attachments):
        return _attached(attachment, fetcher)
    for picture in media:
        for url in (picture.url, picture.proxy_url):
            if url and fetcher.allows(url):
                name = url.partition("?")[0].rpartition("/")[2]
                return partial(fetcher.fetch_url, url, name)
    for attachment in filter(may_be_picture, attachments):
        return _attached(attachment, fetcher)
    if media:
        raise InvalidRequest(
            _("This message's picture is not hosted by Discord. Please attach it instead.")
        )
    raise InvalidRequest(_("This message has no picture attached."))


def shows_picture(message: discord.Message) -> bool:
    """Tell whether a message, or what it forwards, has something that may be a picture."""
    return any(
        any(map(may_be_picture, part.attachments)) or any(_media(part))
        for part in (message, *message.message_snapshots)
    )


def is_forward(message: discord.Message) -> bool:
    """Tell whether a message forwards another one; then it has no words of its own."""
    reference = message.reference
    forward = discord.MessageReferenceType.forward
    return bool(message.message_snapshots) or (reference is not None and reference.type is forward)


def _attached(attachment: discord.Attachment, fetcher: Fetcher) -> PictureSource:
    check_attachment(attachment)
    return partial(fetcher.fetch, attachment)


def _media(part: discord.Message | discord.MessageSnapshot) -> Iterator[Media]:
    """Yield the pictures that embeds and components show."""
    for embed in part.embeds:
        if embed.image.url:
            yield embed.image
        # A link to a picture has it as its thumbnail; other embeds' thumbnails are mere ornaments.
        elif embed.type == "image" and embed.thumbnail.url:
            yield embed.thumbnail
    for component in every(part.components):
        match component:
            case discord.MediaGalleryComponent():
                yield from (item.media for item in component.items if may_be_picture(item.media))
            case discord.ThumbnailComponent() | discord.FileComponent():
                if may_be_picture(component.media):
                    yield component.media
            case _:
                pass
