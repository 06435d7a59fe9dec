"""The Discord of then: its messages and open forms, put into a sandbox and looked at there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from bot.sandbox.model import (
    File,
    Interaction,
    InteractionType,
    Message,
    Modal,
    Progress,
    walk,
)
from bot.sandbox.server import Sandbox
from bot.sandbox.world import World
from tests.upgrade.installation import Installation
from tests.wire.kit import text_of


def set_up(sandbox: Sandbox, old: Installation) -> None:
    """Put the old messages into the sandbox, and let the open forms be open."""
    world, text = sandbox.world, json.dumps(old.scene).replace("SANDBOX", sandbox.url)
    scene = json.loads(text)
    for user in world.users.values():
        if not user.bot:
            world.dm(user)
    for row in scene["interactions"]:
        world.interactions[row["id"]] = Interaction(
            row["id"], f"expired-{row['id']}", InteractionType(row["type"]),
            world.user(row["user"]), world.channel(row["channel"]), row["created"], {},
            name=row["name"], progress=Progress.ANSWERED,
            modal=Modal(**row["modal"]) if row["modal"] else None,
        )  # fmt: skip
    for row in sorted(scene["messages"], key=lambda row: row["id"]):
        _put(world, old, row)
    for row in scene["interactions"]:
        if row["message"]:
            world.interactions[row["id"]].message = find(world, row["message"])


def _put(world: World, old: Installation, row: dict[str, Any]) -> None:
    channel = world.channel(row["channel"])
    message = Message(row["id"], channel, world.user(row["author"]), row["created"], row["type"])
    for name in ("content", "embeds", "components", "flags", "edited", "nonce"):
        setattr(message, name, row[name])
    for about in row["files"]:
        values = dict(about)
        data = (old.root / "discord" / values.pop("sha256")).read_bytes()
        file = File(data=data, **values)
        world.files[file.id] = file
        message.files.append(file)
    message.mentions = [world.user(key) for key in row["mentions"]]
    message.interaction = world.interactions.get(row["interaction"] or 0)
    message.reference = channel.messages.get(row["reference"] or 0)
    message.visible_to = world.user(row["visible_to"]) if row["visible_to"] else None
    if message.interaction is not None:
        message.interaction.original = message
    channel.messages[message.id] = message


def old_controls(old: Installation) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every control of every old message: (message, control), as they stood."""
    for row in old.scene["messages"]:
        for item in walk(row["components"]):
            if "custom_id" in item:
                yield row, item


def find(world: World, message_id: int) -> Message:
    for channel in world.channels.values():
        if message_id in channel.messages:
            return channel.messages[message_id]
    raise KeyError(message_id)


def ids(message: Message) -> list[str]:
    return [str(item["custom_id"]) for item in message.controls if "custom_id" in item]


def said(message: Message) -> str:
    """All that a message says, its embeds' fields too."""
    fields = [
        f"{field['name']}: {field['value']}"
        for embed in message.embeds
        for field in embed.get("fields", ())
    ]
    return "\n".join([text_of(message), *fields])


def filled_in(modal: Modal) -> dict[str, str]:
    """What stands in the fields of a form already."""
    return {
        item["custom_id"]: item.get("value", "")
        for item in walk(modal.components)
        if item["type"] == 4
    }


def digests(message: Message) -> list[str]:
    return [hashlib.sha256(file.data).hexdigest() for file in message.files]
