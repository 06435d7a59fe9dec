"""The card as a message of layout components (Components V2), and as an embed.

A message that has layout components once cannot have content or embeds any more. So all that a
job's message shows is of one kind: an embed where the message was posted as one, by a version of
the bot before layouts.
"""

from __future__ import annotations

from typing import Any

import discord

from bot.messages.card import Card
from bot.messages.discord_limits import LAYOUT_TEXT
from bot.messages.text import shorten


def edit_of(card: Card, *, layout: bool = True) -> dict[str, Any]:
    """Return the keywords of discord.py's edits that make a message show a card, and nothing else.

    `layout` says of which kind the message is.
    """
    return {**_shown(card, layout=layout, mention=card.mention), "attachments": card.files()}


def message_of(card: Card, *, layout: bool = True, mention: int | None = None) -> dict[str, Any]:
    """Return the keywords with which discord.py sends a card as a new message; see `edit_of`.

    A user's id to `mention` stands above the card.
    """
    return {**_shown(card, layout=layout, mention=mention), "files": card.files()}


def _shown(card: Card, *, layout: bool, mention: int | None) -> dict[str, Any]:
    named = None if mention is None else f"<@{mention}>"
    if layout:
        return {"view": layout_of(card, named)}
    return {"content": named, "embed": embed_of(card), "view": _view(card)}


def layout_of(card: Card, above: str | None = None) -> discord.ui.LayoutView:
    """Return a card as a container, with a line `above` it.

    Stopped, so that discord.py does not keep the view in memory.
    """
    view = discord.ui.LayoutView(timeout=None)
    if above:
        view.add_item(discord.ui.TextDisplay[Any](above))
    box = discord.ui.Container[Any](accent_colour=card.colour)
    said = shorten(card.said, LAYOUT_TEXT // 2)
    prompt = shorten(card.prompt, LAYOUT_TEXT - len(said) - len(above or ""))
    # Discord takes no text that is blank.
    if prompt.strip():
        box.add_item(discord.ui.TextDisplay[Any](prompt))
    if card.uploads:
        gallery = discord.ui.MediaGallery[Any]()
        for upload in card.uploads:
            gallery.add_item(
                media=upload.uri, description=upload.description or None, spoiler=upload.spoiler
            )
        box.add_item(gallery)
    if said.strip():
        box.add_item(discord.ui.TextDisplay[Any](said))
    for row in card.controls():
        box.add_item(discord.ui.ActionRow[Any](*row))
    view.add_item(box)
    view.stop()
    return view


def embed_of(card: Card) -> discord.Embed:
    """Return a card as an embed; several pictures, or a covered one, are attached below it."""
    parts = [card.prompt, "", card.said] if card.prompt else [card.said]
    embed = discord.Embed(description="\n".join(parts), colour=card.colour)
    # An embed's picture cannot be covered, a file beside it can.
    if len(card.uploads) == 1 and not card.uploads[0].spoiler:
        embed.set_image(url=card.uploads[0].uri)
    return embed


def _view(card: Card) -> discord.ui.View:
    view = discord.ui.View(timeout=None)
    for number, row in enumerate(card.controls()):
        for item in row:
            item.row = number
            view.add_item(item)
    view.stop()
    return view
