"""Actions of users: run a command, click, choose, fill in a form, write a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bot.sandbox import forms, messages
from bot.sandbox.commands import CHAT_INPUT, Option, check_use
from bot.sandbox.components import BUTTON, LINK_STYLE
from bot.sandbox.errors import ApiError, Json, Refusal, entries
from bot.sandbox.interactions import open_interaction
from bot.sandbox.model import Channel, Interaction, InteractionType, Message, User
from bot.sandbox.options import fill_options
from bot.sandbox.payloads import FORWARD, member_json, message_json, user_json
from bot.sandbox.permissions import Permission, can_see, permissions_in, sending_right
from bot.sandbox.uploads import Upload
from bot.sandbox.world import World


def run_command(
    world: World,
    user: User,
    channel: Channel,
    name: str,
    values: Mapping[str, Any],
    *,
    target_id: int | None = None,
    force: bool = False,
) -> Interaction:
    """Run `name` ("imagine", "admin queue", or a context menu's name with `target_id`).

    Raises `Refusal` where Discord's client would not let the user; `force` skips the question
    whether the command is offered to this user here.
    """
    command, path = _find_command(world, channel, name)
    if not can_see(user, channel):
        raise Refusal(404, "There is no such channel.")
    if not force:
        check_use(command, user, channel)
    data: Json = {"id": command["id"], "name": command["name"], "type": command["type"]}
    if "guild_id" in command:
        data["guild_id"] = command["guild_id"]
    if command["type"] == CHAT_INPUT:
        filled = fill_options(world, channel, command, path, values)
        data["options"] = filled.options
        if filled.resolved:
            data["resolved"] = filled.resolved
    else:
        data |= _target(world, user, channel, command, target_id)
    return open_interaction(world, InteractionType.COMMAND, user, channel, data, name=name)


def complete(
    world: World,
    user: User,
    channel: Channel,
    name: str,
    values: Mapping[str, Any],
    focused: str,
) -> Interaction:
    """Ask the bot to complete the option `focused`."""
    command, path = _find_command(world, channel, name)
    check_use(command, user, channel)
    typed = {**values, focused: values.get(focused) or ""}
    filled = fill_options(world, channel, command, path, typed, focused=focused)
    data: Json = {"id": command["id"], "name": command["name"], "type": command["type"]}
    data["options"] = filled.options
    kind = InteractionType.AUTOCOMPLETE
    return open_interaction(world, kind, user, channel, data, name=name)


def use_control(
    world: World,
    user: User,
    message: Message,
    name: str,
    values: Sequence[str] | None = None,
) -> Interaction:
    """Press the button, or choose `values` in the select, with this `custom_id` or label."""
    if message.deleted or not world.sees(user, message):
        raise Refusal(404, "This message no longer exists, or is not yours to see.")
    try:
        control = message.control(name)
    except KeyError:
        raise Refusal(404, f"This message has no button or menu {name}.") from None
    if control.get("disabled"):
        raise Refusal(409, "This button is disabled.")
    if control["type"] == BUTTON and control.get("style") == LINK_STYLE:
        raise Refusal(400, "This button is a link; the bot hears nothing of it.")
    kind = control["type"]
    data: Json = {"custom_id": control["custom_id"], "component_type": kind, "id": control["id"]}
    if kind != BUTTON:
        data |= forms.chosen(world, message.channel, control, list(values or []))
    return open_interaction(
        world, InteractionType.COMPONENT, user, message.channel, data, message=message
    )


def submit_form(
    world: World, user: User, source: Interaction, values: Mapping[str, Any]
) -> Interaction:
    """Send the form that answered `source`, with `values` by custom id."""
    modal = source.modal
    if modal is None or source.user is not user:
        raise Refusal(404, "There is no such form.")
    data: Json = {"custom_id": modal.custom_id} | forms.filled(
        world, source.channel, modal, dict(values)
    )
    return open_interaction(
        world,
        InteractionType.MODAL_SUBMIT,
        user,
        source.channel,
        data,
        message=source.message,
        parent=source,
    )


def write(
    world: World,
    user: User,
    channel: Channel,
    text: str,
    uploads: Sequence[Upload] = (),
    *,
    reply_to: int | None = None,
) -> Message:
    """Post a message of a user; raise `Refusal` if Discord would not take it."""
    held = permissions_in(user, channel)
    if sending_right(channel) not in held:
        raise Refusal(403, "You may not write here.")
    if uploads and Permission.ATTACH_FILES not in held:
        raise Refusal(403, "You may not attach files here.")
    try:
        body: Json = {"content": text}
        if reply_to is not None:
            body["message_reference"] = {"message_id": reply_to}
        return messages.compose(world, channel, user, body, uploads)
    except ApiError as error:
        raise Refusal(error.status, f"Discord refused this: {error}.") from error


def forward(world: World, user: User, source: Message, channel: Channel) -> Message:
    """Forward a message that the user sees into a channel; raise `Refusal` where they may not."""
    if source.ephemeral or source.deleted or not world.sees(user, source):
        raise Refusal(404, "This message no longer exists, or is not yours to forward.")
    if sending_right(channel) not in permissions_in(user, channel):
        raise Refusal(403, "You may not write here.")
    reference: Json = {"type": FORWARD, "message_id": source.id, "channel_id": source.channel.id}
    return messages.compose(world, channel, user, {"message_reference": reference})


def file_options(world: World, channel: Channel, name: str) -> list[str]:
    """Return the names of the options of a command that take a file."""
    command, path = _find_command(world, channel, name)
    schema: list[Json] = command["options"]
    for step in path:
        schema = [
            leaf for entry in schema if entry["name"] == step for leaf in entries(entry, "options")
        ]
    return [entry["name"] for entry in schema if entry["type"] == Option.ATTACHMENT]


def _find_command(world: World, channel: Channel, name: str) -> tuple[Json, list[str]]:
    try:
        command = world.commands.find(name, channel)
    except Refusal:
        first, *path = name.removeprefix("/").split()
        return world.commands.find(first, channel), path
    return command, []


def _target(
    world: World, user: User, channel: Channel, command: Json, target_id: int | None
) -> Json:
    if target_id is None:
        raise Refusal(400, f"{command['name']} needs something to act on.")
    key = str(target_id)
    if command["type"] == 3:  # noqa: PLR2004 - a message command; 2 is a user command
        message = world.find_message(user, target_id)
        return {"target_id": key, "resolved": {"messages": {key: message_json(message)}}}
    resolved: Json = {"users": {key: user_json(world.user(target_id))}}
    if channel.guild is not None and target_id in channel.guild.members:
        member = member_json(channel.guild.members[target_id], with_user=False)
        resolved["members"] = {key: member | {"permissions": "0"}}
    return {"target_id": key, "resolved": resolved}
