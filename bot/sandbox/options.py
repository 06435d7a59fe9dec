"""Options of an interaction, from what a user typed, with the client's own checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bot.sandbox.commands import Option
from bot.sandbox.errors import ApiError, Json, Refusal
from bot.sandbox.model import Channel
from bot.sandbox.payloads import channel_json, file_json, member_json, role_json, user_json
from bot.sandbox.world import World

TEXT_LIMIT: Final = 6000
_WORDS: Final = {"true": True, "false": False}


@dataclass(slots=True)
class Filled:
    """The options of an interaction, and the objects that their ids stand for."""

    options: list[Json] = field(default_factory=list[Json])
    resolved: dict[str, Json] = field(default_factory=dict[str, Json])


def fill_options(
    world: World,
    channel: Channel,
    command: Json,
    path: list[str],
    values: Mapping[str, Any],
    *,
    focused: str | None = None,
) -> Filled:
    """Check `values` against the command as synced and build the tree below it.

    With `focused` (an autocompletion) nothing is required and half-typed values pass.
    Raises `Refusal` with the sentence of Discord's client.
    """
    schema: list[Json] = command["options"]
    branch: list[Json] = []
    for name in path:
        step = next((entry for entry in schema if entry["name"] == name), None)
        if step is None or step["type"] not in (Option.SUBCOMMAND, Option.GROUP):
            raise Refusal(404, f"/{command['name']} has no subcommand {name}.")
        branch.append({"name": name, "type": step["type"]})
        schema = step.get("options") or []
    if any(entry["type"] in (Option.SUBCOMMAND, Option.GROUP) for entry in schema):
        raise Refusal(400, f"/{command['name']} needs a subcommand.")
    unknown = set(values) - {entry["name"] for entry in schema}
    if unknown:
        raise Refusal(400, f"There is no option {', '.join(sorted(unknown))}.")
    filled = Filled()
    leaves: list[Json] = []
    for entry in schema:
        name = entry["name"]
        if values.get(name) is None:
            if entry.get("required") and focused is None:
                raise Refusal(400, f"The option {name} is required.")
            continue
        leaf: Json = {"name": name, "type": entry["type"]}
        if name == focused:
            leaf |= {"value": str(values[name]), "focused": True}
        else:
            leaf["value"] = _convert(world, channel, entry, values[name], filled)
            if focused is None:
                _check_range(entry, leaf["value"])
        leaves.append(leaf)
    if focused is not None and not any(leaf.get("focused") for leaf in leaves):
        raise Refusal(400, f"There is no option {focused} to complete.")
    for step in reversed(branch):
        leaves = [step | {"options": leaves}]
    filled.options = leaves
    return filled


def _convert(world: World, channel: Channel, entry: Json, value: Any, filled: Filled) -> Any:
    wrong = Refusal(400, f"That is not a valid value for {entry['name']}.")
    try:
        match entry["type"]:
            case Option.STRING:
                return str(value)
            case Option.INTEGER:
                if isinstance(value, float) and not value.is_integer():
                    raise wrong
                return int(value)
            case Option.NUMBER:
                return float(value)
            case Option.BOOLEAN:
                return value if isinstance(value, bool) else _WORDS[str(value).lower()]
            case Option.USER | Option.MENTIONABLE:
                return _user(world, channel, value, filled)
            case Option.CHANNEL:
                found = world.channel(value)
                if entry.get("channel_types") and int(found.type) not in entry["channel_types"]:
                    raise wrong
                filled.resolved.setdefault("channels", {})[str(found.id)] = channel_json(found) | {
                    "permissions": "0"
                }
                return str(found.id)
            case Option.ROLE:
                return _role(world, value, filled)
            case Option.ATTACHMENT:
                return _file(world, channel, value, filled)
            case _:
                raise wrong
    except (ValueError, KeyError, TypeError, ApiError):
        raise wrong from None


def _user(world: World, channel: Channel, value: Any, filled: Filled) -> str:
    user = world.user(value)
    key = str(user.id)
    filled.resolved.setdefault("users", {})[key] = user_json(user)
    if channel.guild is not None and user.id in channel.guild.members:
        member = member_json(channel.guild.members[user.id], with_user=False)
        filled.resolved.setdefault("members", {})[key] = member | {"permissions": "0"}
    return key


def _role(world: World, value: Any, filled: Filled) -> str:
    role = {**world.guild.roles, **world.foreign_guild.roles}[int(value)]
    filled.resolved.setdefault("roles", {})[str(role.id)] = role_json(role)
    return str(role.id)


def _file(world: World, channel: Channel, value: Any, filled: Filled) -> str:
    name, data = value
    file = world.add_file(channel, str(name), bytes(data))
    body = file_json(file, ephemeral=True)
    filled.resolved.setdefault("attachments", {})[str(file.id)] = body
    return str(file.id)


def _check_range(entry: Json, value: Any) -> None:
    name, kind = entry["name"], entry["type"]
    choices: list[Json] = entry.get("choices") or []
    if choices and value not in [choice["value"] for choice in choices]:
        raise Refusal(400, f"Choose one of the values offered for {name}.")
    if kind == Option.STRING:
        low, high = entry.get("min_length", 0), entry.get("max_length", TEXT_LIMIT)
        if not low <= len(value) <= high:
            raise Refusal(400, f"{name} must have {low} to {high} characters.")
    if kind in (Option.INTEGER, Option.NUMBER):
        low, high = entry.get("min_value"), entry.get("max_value")
        if (low is not None and value < low) or (high is not None and value > high):
            raise Refusal(400, f"{name} must be from {low} to {high}.")
        if abs(value) > 2**53:
            raise Refusal(400, f"{name} is too large a number.")
