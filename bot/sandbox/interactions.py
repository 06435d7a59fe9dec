"""An interaction's life: sent to the bot, answered within 3 s, followed up for 15 minutes."""

from __future__ import annotations

import secrets
import time
from typing import Any, Final

from bot.sandbox import messages
from bot.sandbox.components import check_modal, fill_ids
from bot.sandbox.errors import (
    Form,
    Json,
    already_acknowledged,
    invalid_webhook_token,
    too_many_follow_ups,
    unknown_interaction,
    unknown_message,
    unknown_webhook,
)
from bot.sandbox.events import InteractionAnswered, InteractionCreated, InteractionFailed
from bot.sandbox.model import (
    Callback,
    Channel,
    Flag,
    Interaction,
    InteractionType,
    Message,
    Modal,
    Progress,
    User,
)
from bot.sandbox.payloads import message_json
from bot.sandbox.permissions import can_see
from bot.sandbox.uploads import Body
from bot.sandbox.world import World

FIRST_RESPONSE_SECONDS: Final = 3.0
TOKEN_SECONDS: Final = 15 * 60.0
FOREIGN_FOLLOW_UPS: Final = 5
"""Follow-ups where the bot itself is not present (a user's own install)."""
NO_RESPONSE: Final = "The application did not respond"
FAILED: Final = "This interaction failed"

_ALLOWED: Final = {
    InteractionType.COMMAND: {4, 5, 9},
    InteractionType.COMPONENT: {4, 5, 6, 7, 9},
    InteractionType.AUTOCOMPLETE: {8},
    InteractionType.MODAL_SUBMIT: {4, 5, 6, 7},
}


def open_interaction(
    world: World,
    kind: InteractionType,
    user: User,
    channel: Channel,
    data: Json,
    *,
    name: str = "",
    message: Message | None = None,
    parent: Interaction | None = None,
) -> Interaction:
    """Send an interaction to the bot and start its 3 seconds."""
    interaction = Interaction(
        world.new_id(),
        secrets.token_urlsafe(48),
        kind,
        user,
        channel,
        world.clock.now(),
        data,
        name=name,
        message=message,
        parent=parent,
    )
    world.interactions[interaction.id] = interaction
    world.tokens[interaction.token] = interaction
    interaction.deadline = world.clock.call_later(
        FIRST_RESPONSE_SECONDS, lambda: _fail(world, interaction)
    )
    interaction.sent_at = time.perf_counter()
    world.events.emit(InteractionCreated(interaction))
    return interaction


def _fail(world: World, interaction: Interaction) -> None:
    if interaction.progress is Progress.PENDING:
        command = interaction.type is InteractionType.COMMAND
        interaction.progress = Progress.FAILED
        interaction.failure = NO_RESPONSE if command else FAILED
        world.events.emit(InteractionFailed(interaction))


def first_response(world: World, interaction_id: int, token: str, body: Body) -> Json:
    """Take the bot's callback; return the reply for `with_response`.

    Raises 10062 for an unknown, foreign or late one, 40060 for a second one, 50035 for a type
    or content that does not fit.
    """
    received = time.perf_counter()
    interaction = world.interactions.get(interaction_id)
    if interaction is None or interaction.token != token:
        raise unknown_interaction()
    if interaction.progress is Progress.FAILED:
        raise unknown_interaction()
    if interaction.progress is Progress.ANSWERED:
        raise already_acknowledged()
    kind = body.fields.get("type")
    if kind not in _ALLOWED[interaction.type]:
        form = Form()
        form.add("type", code="BASE_TYPE_CHOICES", message="Value is not allowed here.")
        form.check()
    callback = Callback(kind)
    if callback in (Callback.DEFERRED_UPDATE, Callback.UPDATE) and interaction.message is None:
        raise unknown_message()
    _answer(world, interaction, callback, body)
    interaction.progress = Progress.ANSWERED
    interaction.callback = callback
    interaction.answered_at = received
    if interaction.deadline is not None:
        interaction.deadline.cancel()
    world.events.emit(InteractionAnswered(interaction))
    return _callback_json(interaction, callback)


def _answer(world: World, interaction: Interaction, callback: Callback, body: Body) -> None:
    data: Json = body.fields.get("data") or {}
    match callback:
        case Callback.MESSAGE:
            interaction.original = messages.compose(
                world, interaction.channel, world.bot, data, body.uploads, interaction=interaction
            )
        case Callback.DEFERRED_MESSAGE:
            interaction.original = _thinking(world, interaction, int(data.get("flags") or 0))
        case Callback.DEFERRED_UPDATE:
            interaction.original = interaction.message
        case Callback.UPDATE:
            if interaction.message is not None:
                messages.edit(world, interaction.message, data, body.uploads)
            interaction.original = interaction.message
        case Callback.CHOICES:
            interaction.choices = _choices(data)
        case Callback.MODAL:
            form = Form()
            check_modal(form, data)
            form.check()
            rows = fill_ids(data["components"])
            interaction.modal = Modal(data["custom_id"], data["title"], rows)


def _thinking(world: World, interaction: Interaction, flags: int) -> Message:
    message = Message(world.new_id(), interaction.channel, world.bot, world.clock.now())
    message.flags = Flag.LOADING | flags & Flag.EPHEMERAL
    message.interaction = interaction
    message.type = messages.REPLY if interaction.message else messages.COMMAND_REPLY
    message.visible_to = interaction.user if message.ephemeral else None
    return world.add_message(message)


def _choices(data: Json) -> list[Json]:
    choices: list[Json] = data.get("choices") or []
    form = Form()
    form.count(len(choices), 0, 25, "data", "choices")
    for index, choice in enumerate(choices):
        form.length(choice.get("name"), 1, 100, "data", "choices", index, "name")
        if isinstance(choice.get("value"), str):
            form.length(choice["value"], 1, 100, "data", "choices", index, "value")
    form.check()
    return choices


def _callback_json(interaction: Interaction, callback: Callback) -> Json:
    about: Json = {"id": str(interaction.id), "type": int(interaction.type)}
    body: Json = {"interaction": about}
    message = interaction.original
    if message is not None:
        about |= {
            "response_message_id": str(message.id),
            "response_message_loading": message.thinking,
            "response_message_ephemeral": message.ephemeral,
        }
        if callback in (Callback.MESSAGE, Callback.UPDATE):
            body["resource"] = {"type": int(callback), "message": message_json(message)}
    return body


def by_token(world: World, application_id: str, token: str) -> Interaction:
    """Return the interaction whose token is good now.

    Raises 10015 for another application or before the first response, 50027 for a token that
    was never given or is older than 15 minutes.
    """
    if application_id != str(world.application_id):
        raise unknown_webhook()
    interaction = world.tokens.get(token)
    if interaction is None or world.clock.now() - interaction.created >= TOKEN_SECONDS:
        raise invalid_webhook_token()
    if interaction.progress is not Progress.ANSWERED:
        raise unknown_webhook()
    return interaction


def target(interaction: Interaction, key: str) -> Message:
    """Return the message that `@original` or an id means for this token; raise 10008."""
    candidates: list[Any] = [interaction.original, *interaction.followups]
    for message in candidates:
        if message is None or message.deleted:
            continue
        if key == str(message.id) or (key == "@original" and message is interaction.original):
            return message
    raise unknown_message()


def follow_up(world: World, interaction: Interaction, body: Body) -> Message:
    """Post a follow-up; the first one after a deferral fills the deferred message."""
    original = interaction.original
    if original is not None and original.thinking and not original.deleted:
        return messages.edit(world, original, body.fields, body.uploads)
    present = can_see(world.bot, interaction.channel)
    if not present and len(interaction.followups) >= FOREIGN_FOLLOW_UPS:
        raise too_many_follow_ups()
    message = messages.compose(
        world,
        interaction.channel,
        world.bot,
        body.fields,
        body.uploads,
        interaction=interaction,
    )
    interaction.followups.append(message)
    return message
