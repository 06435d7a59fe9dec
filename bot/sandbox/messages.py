"""Messages, made and edited out of request bodies."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from bot.sandbox.components import fill_ids
from bot.sandbox.errors import ApiError, Form, Json, entries
from bot.sandbox.model import Channel, File, Flag, Interaction, Message, User, shown_media
from bot.sandbox.payloads import FORWARD
from bot.sandbox.permissions import Permission, permissions_in
from bot.sandbox.uploads import Upload
from bot.sandbox.validate import check_message
from bot.sandbox.world import World

SETTABLE: Final = (
    Flag.SUPPRESS_EMBEDS | Flag.EPHEMERAL | Flag.SUPPRESS_NOTIFICATIONS | Flag.COMPONENTS_V2
)
NONCE_SECONDS: Final = 300
DEFAULT, REPLY, COMMAND_REPLY = 0, 19, 20


def compose(
    world: World,
    channel: Channel,
    author: User,
    body: Json,
    uploads: Sequence[Upload] = (),
    *,
    interaction: Interaction | None = None,
) -> Message:
    """Return a new message in `channel`, announced to all; raise `ApiError` if refused.

    The ephemeral flag counts only in answers to an interaction.
    """
    check_message(body, uploads, limit=world.attachment_limit)
    message = Message(world.new_id(), channel, author, world.clock.now())
    message.flags = int(body.get("flags") or 0) & SETTABLE
    message.nonce = body.get("nonce")
    if interaction is None:
        message.flags &= ~Flag.EPHEMERAL
    else:
        message.interaction = interaction
        message.type = REPLY if interaction.message is not None else COMMAND_REPLY
        message.visible_to = interaction.user if message.ephemeral else None
    _apply(world, message, body, uploads)
    source: Json = body.get("message_reference") or {}
    if source.get("type") == FORWARD:
        _forward(world, message, source)
    elif source:
        message.reference = _reply_target(world, channel, source)
        message.type = DEFAULT if message.reference is None else REPLY
    return world.add_message(message)


def edit(world: World, message: Message, body: Json, uploads: Sequence[Upload] = ()) -> Message:
    """Change `message` as `body` says; the first edit of a deferred answer fills it."""
    check_message(body, uploads, limit=world.attachment_limit, current=message)
    filled = message.thinking
    message.flags &= ~Flag.LOADING
    if body.get("flags") is not None:
        kept = message.flags & ~Flag.SUPPRESS_EMBEDS
        message.flags = kept | body["flags"] & (Flag.SUPPRESS_EMBEDS | Flag.COMPONENTS_V2)
    _apply(world, message, body, uploads)
    world.touch_message(message, edited=not filled)
    return message


def find_repeat(world: World, channel: Channel, author: User, body: Json) -> Message | None:
    """Return the message that an enforced nonce of the last minutes stands for already."""
    nonce = body.get("nonce")
    if nonce is None or not body.get("enforce_nonce"):
        return None
    since = world.clock.now() - NONCE_SECONDS
    for message in reversed(channel.messages.values()):
        if message.created < since:
            return None
        if message.author is author and message.nonce == nonce:
            return message
    return None


def _reply_target(world: World, channel: Channel, source: Json) -> Message | None:
    try:
        return world.message(channel, int(source["message_id"]))
    except ApiError:
        if source.get("fail_if_not_exists", True):
            form = Form()
            text = "Unknown message"
            form.add("message_reference", code="REPLIES_UNKNOWN_MESSAGE", message=text)
            form.check()
        return None


def _forward(world: World, message: Message, source: Json) -> None:
    """Put a copy of another message into this one, which has no words or files of its own."""
    origin = world.message(world.channel(str(source["channel_id"])), int(source["message_id"]))
    message.reference = origin
    # Of what is forwarded again the first message is kept.
    kept = replace(origin.forwarded or origin)
    kept.embeds, kept.components = copy.deepcopy((kept.embeds, kept.components))
    kept.files, kept.mentions = [*kept.files], [*kept.mentions]
    message.forwarded = kept


def _apply(world: World, message: Message, body: Json, uploads: Sequence[Upload]) -> None:
    if "content" in body:
        message.content = body["content"] or ""
    described: dict[str, Json] = {
        str(entry.get("id")): entry for entry in entries(body, "attachments")
    }
    fresh: list[File] = []
    for upload in uploads:
        entry = described.get(str(upload.index), {})
        name = entry.get("filename") or upload.filename
        about = entry.get("description")
        fresh.append(world.add_file(message.channel, name, upload.data, about))
    message.files += fresh
    if "embeds" in body:
        message.embeds = [_finish_embed(embed, message.files) for embed in entries(body, "embeds")]
        held = permissions_in(message.author, message.channel)
        # Where the bot is not even a member, its answers to interactions may hold embeds.
        foreign = message.interaction is not None and held is Permission.NONE
        if Permission.EMBED_LINKS not in held and not foreign:
            message.embeds = []
    if "components" in body:
        message.components = fill_ids(copy.deepcopy(body["components"] or []))
        for media in shown_media(message.components):
            _finish_media(world, media, message.files)
    if "content" in body or ("components" in body and message.flags & Flag.COMPONENTS_V2):
        _read_mentions(world, message, body.get("allowed_mentions"))
    if "attachments" in body:
        # Files that an embed or a component shows stay with it, listed or not.
        loose = [file for file in message.attachments if file not in fresh]
        gone = [file for file in loose if str(file.id) not in described]
        message.files = [file for file in message.files if file not in gone]


def _finish_embed(embed: Json, files: Sequence[File]) -> Json:
    done = copy.deepcopy(embed)
    done.setdefault("type", "rich")
    for key in ("image", "thumbnail"):
        if key in done:
            _resolve(done[key], files)
    for key in ("author", "footer"):
        if icon := done.get(key, {}).get("icon_url"):
            done[key]["icon_url"] = _resolve({"url": icon}, files)["url"]
    for field in done.get("fields", []):
        field.setdefault("inline", False)
    return done


def _finish_media(world: World, media: Json, files: Sequence[File]) -> None:
    _resolve(media, files)
    media.setdefault("proxy_url", media["url"])
    media["id"] = str(world.new_id())
    for file in files:
        if file.url == media["url"]:
            media["attachment_id"] = str(file.id)


def _resolve(media: Json, files: Sequence[File]) -> Json:
    url = str(media.get("url", ""))
    name = url.removeprefix("attachment://")
    if name != url:
        for file in files:
            if file.filename == name:
                media |= {"url": file.url, "proxy_url": file.url}
                if file.content_type is not None:
                    media["content_type"] = file.content_type
                if file.width is not None:
                    media |= {"width": file.width, "height": file.height}
                if file.description:
                    media["description"] = file.description
    return media


def _read_mentions(world: World, message: Message, allowed: Json | None) -> None:
    """Work out who is pinged: all that the text names, unless `allowed` says less."""
    parse = {"users", "everyone"} if allowed is None else set(entries(allowed, "parse"))
    named = set[str]() if allowed is None else {str(key) for key in entries(allowed, "users")}
    found = dict.fromkeys(re.findall(r"<@!?(\d+)>", message.text))
    message.mentions = [
        user
        for user in world.users.values()
        if str(user.id) in found and ("users" in parse or str(user.id) in named)
    ]
    held = permissions_in(message.author, message.channel)
    message.mention_everyone = (
        re.search(r"@(everyone|here)\b", message.text) is not None
        and "everyone" in parse
        and Permission.MENTION_EVERYONE in held
    )
