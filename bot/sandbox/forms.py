"""What a user puts into selects and forms, checked as Discord's client checks it."""

from __future__ import annotations

from bot.sandbox.components import (
    CHECKBOX,
    CHECKBOX_GROUP,
    FILE_UPLOAD,
    LABEL,
    RADIO_GROUP,
    ROW,
    SELECT,
    SELECTS,
    TEXT_DISPLAY,
    TEXT_INPUT,
)
from bot.sandbox.errors import Json, Refusal, entries
from bot.sandbox.model import Channel, Modal, walk
from bot.sandbox.payloads import channel_json, file_json, member_json, user_json
from bot.sandbox.world import World


def chosen(world: World, channel: Channel, select: Json, values: list[str]) -> Json:
    """Return `values` and `resolved` of a select; raise `Refusal` if they do not fit."""
    name = select.get("placeholder") or select["custom_id"]
    low, high = select.get("min_values", 1), select.get("max_values", 1)
    if not select.get("required", True) and not values:
        low = 0
    if not low <= len(values) <= high:
        raise Refusal(400, f"Choose {low} to {high} values for {name}.")
    if select["type"] == SELECT:
        offered = [option["value"] for option in select["options"]]
        if any(value not in offered for value in values):
            raise Refusal(400, f"That value is not offered for {name}.")
        return {"values": values}
    resolved: Json = {}
    for value in values:
        if select["type"] == 8:  # noqa: PLR2004 - a channel select
            found = world.channel(value)
            resolved.setdefault("channels", {})[value] = channel_json(found)
            continue
        user = world.user(value)
        resolved.setdefault("users", {})[value] = user_json(user)
        if channel.guild is not None:
            member = member_json(channel.guild.members[user.id], with_user=False)
            resolved.setdefault("members", {})[value] = member | {"permissions": "0"}
    return {"values": values, "resolved": resolved}


def file_fields(modal: Modal) -> list[str]:
    """Return the `custom_id`s of a form's fields for files."""
    return [item["custom_id"] for item in walk(modal.components) if item["type"] == FILE_UPLOAD]


def filled(world: World, channel: Channel, modal: Modal, values: Json) -> Json:
    """Return `components` (and `resolved`) of a submitted form; raise `Refusal`."""
    resolved: Json = {}
    rows = [_row(world, channel, item, values, resolved) for item in modal.components]
    return {"components": rows} | ({"resolved": resolved} if resolved else {})


def _row(world: World, channel: Channel, item: Json, values: Json, resolved: Json) -> Json:
    head: Json = {"type": item["type"], "id": item["id"]}
    if item["type"] == ROW:
        fields = [_field(world, channel, child, values, resolved) for child in item["components"]]
        return head | {"components": fields}
    if item["type"] == LABEL:
        child = _field(world, channel, item["component"], values, resolved, item["label"])
        return head | {"component": child}
    if item["type"] == TEXT_DISPLAY:
        return head
    raise Refusal(400, "This form has a part that cannot be filled in.")


def _field(
    world: World,
    channel: Channel,
    item: Json,
    values: Json,
    resolved: Json,
    label: str = "",
) -> Json:
    kind, key = item["type"], item["custom_id"]
    name = label or item.get("label") or key
    value = values.get(key)
    head: Json = {"type": kind, "id": item["id"], "custom_id": key}
    if kind == TEXT_INPUT:
        text = str(item.get("value", "") if value is None else value)
        low, high = item.get("min_length", 0), item.get("max_length", 4000)
        if not text and item.get("required", True):
            raise Refusal(400, f"{name} is required.")
        if text and not low <= len(text) <= high:
            raise Refusal(400, f"{name} must have {low} to {high} characters.")
        return head | {"value": text}
    if kind == CHECKBOX:
        return head | {"value": bool(item.get("default", False) if value is None else value)}
    if kind == RADIO_GROUP:
        if value is None and item.get("required", True):
            raise Refusal(400, f"{name} is required.")
        return head | {"value": value}
    if kind in (*SELECTS, CHECKBOX_GROUP):
        picked = [str(entry) for entry in entries(values, key)]
        if key not in values:
            # As it was shown, with what was chosen beforehand.
            shown: list[Json] = item.get("options") or []
            picked = [str(one["value"]) for one in shown if one.get("default")]
        if kind == CHECKBOX_GROUP:
            return head | {"values": picked}
        answer = chosen(world, channel, item, picked)
        _merge(resolved, answer.pop("resolved", {}))
        return head | answer
    if kind == FILE_UPLOAD:
        files = [
            world.add_file(channel, str(title), bytes(data)) for title, data in entries(values, key)
        ]
        if not files and item.get("required", True):
            raise Refusal(400, f"{name} is required.")
        bodies = {str(file.id): file_json(file, ephemeral=True) for file in files}
        _merge(resolved, {"attachments": bodies} if bodies else {})
        return head | {"values": list(bodies)}
    raise Refusal(400, f"{name} cannot be filled in here.")


def _merge(target: Json, more: Json) -> None:
    for kind, found in more.items():
        target.setdefault(kind, {}).update(found)
