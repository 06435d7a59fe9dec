"""The application commands as the bot synced them, and who may use which where."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any, Final, cast

from bot.sandbox.errors import Form, Json, Refusal, unknown_command
from bot.sandbox.model import Channel, ChannelType, User
from bot.sandbox.permissions import Permission, permissions_in

CHAT_INPUT: Final = 1
GUILD_CONTEXT, BOT_DM_CONTEXT, PRIVATE_CONTEXT = 0, 1, 2
GUILD_INSTALL, USER_INSTALL = 0, 1
_NAME = re.compile(r"^[-_'\w]{1,32}$")


class Option(IntEnum):
    """The types of a command's options."""

    SUBCOMMAND = 1
    GROUP = 2
    STRING = 3
    INTEGER = 4
    BOOLEAN = 5
    USER = 6
    CHANNEL = 7
    ROLE = 8
    MENTIONABLE = 9
    NUMBER = 10
    ATTACHMENT = 11


class Commands:
    """Commands by scope: None is global, a number is a guild's id."""

    def __init__(self, application_id: int, new_id: Callable[[], int]) -> None:
        self._application_id = application_id
        self._new_id = new_id
        self._scopes: dict[int | None, dict[int, Json]] = {}

    def list(self, scope: int | None) -> list[Json]:
        """Return the commands of one scope."""
        return list(self._scopes.get(scope, {}).values())

    def get(self, scope: int | None, command_id: int) -> Json:
        """Return one command; raise error 10063."""
        try:
            return self._scopes.get(scope, {})[command_id]
        except KeyError:
            raise unknown_command() from None

    def replace(self, scope: int | None, bodies: list[Json]) -> list[Json]:
        """Make `bodies` the whole set of a scope; ids of known names are kept."""
        form = Form()
        seen: set[tuple[str, int]] = set()
        for index, body in enumerate(bodies):
            check_command(form, body, index)
            key = (str(body.get("name")), int(body.get("type", CHAT_INPUT)))
            if key in seen:
                text = "Application command names must be unique"
                form.add(index, "name", code="APPLICATION_COMMANDS_DUPLICATE_NAME", message=text)
            seen.add(key)
        form.check()
        old = {(entry["name"], entry["type"]): entry for entry in self.list(scope)}
        fresh = [self._complete(scope, body, old) for body in bodies]
        self._scopes[scope] = {int(entry["id"]): entry for entry in fresh}
        return fresh

    def upsert(self, scope: int | None, body: Json) -> tuple[Json, bool]:
        """Add one command or replace that of the same name; True says that it is new."""
        form = Form()
        check_command(form, body)
        form.check()
        old = {(entry["name"], entry["type"]): entry for entry in self.list(scope)}
        entry = self._complete(scope, body, old)
        known = (entry["name"], entry["type"]) in old
        self._scopes.setdefault(scope, {})[int(entry["id"])] = entry
        return entry, not known

    def edit(self, scope: int | None, command_id: int, changes: Json) -> Json:
        """Change fields of one command."""
        merged = {**self.get(scope, command_id), **changes}
        form = Form()
        check_command(form, merged)
        form.check()
        merged["version"] = str(self._new_id())
        self._scopes[scope][command_id] = merged
        return merged

    def delete(self, scope: int | None, command_id: int) -> None:
        """Remove one command."""
        self.get(scope, command_id)
        del self._scopes[scope][command_id]

    def everything(self) -> list[Json]:
        """Return all commands, those of guilds first."""
        scopes = sorted(self._scopes, key=lambda scope: scope is None)
        return [entry for scope in scopes for entry in self.list(scope)]

    def find(self, name: str, channel: Channel) -> Json:
        """Return the command called `name` in `channel`; raise `Refusal` if none was synced."""
        guild = channel.guild
        for entry in self.everything():
            scope = entry.get("guild_id")
            if entry["name"] == name and (
                scope is None or (guild is not None and scope == str(guild.id))
            ):
                return entry
        raise Refusal(404, f"There is no command called /{name}.")

    def _complete(self, scope: int | None, body: Json, old: dict[tuple[str, int], Json]) -> Json:
        kind = body.get("type", CHAT_INPUT)
        known = old.get((body["name"], kind))
        needed = body.get("default_member_permissions")
        return {
            "id": known["id"] if known else str(self._new_id()),
            "application_id": str(self._application_id),
            "version": str(self._new_id()),
            "default_member_permissions": None if needed is None else str(needed),
            "type": kind,
            "name": body["name"],
            "name_localizations": body.get("name_localizations"),
            "description": body.get("description") or "",
            "description_localizations": body.get("description_localizations"),
            "dm_permission": body.get("dm_permission", True),
            "contexts": body.get("contexts"),
            "integration_types": body.get("integration_types") or [0],
            "nsfw": body.get("nsfw", False),
            "options": body.get("options") or [],
        } | ({} if scope is None else {"guild_id": str(scope)})


def check_use(command: Json, user: User, channel: Channel) -> None:
    """Raise `Refusal` where Discord's client would not offer `command` to `user`."""
    hidden = Refusal(403, f"You may not use /{command['name']} here.")
    installs = cast("list[int]", command["integration_types"])
    guild, group = channel.guild, channel.type is ChannelType.GROUP_DM
    own = user.installed and USER_INSTALL in installs
    # Where the bot is no member, only what a user brings along is offered.
    foreign = group or (guild is not None and int(command["application_id"]) not in guild.members)
    if not own and (foreign or GUILD_INSTALL not in installs):
        raise hidden
    contexts = cast("list[int] | None", command["contexts"])
    here = PRIVATE_CONTEXT if group else GUILD_CONTEXT if guild else BOT_DM_CONTEXT
    if contexts is not None and here not in contexts:
        raise hidden
    if channel.guild is None:
        if contexts is None and command["dm_permission"] is False:
            raise hidden
        return
    if command["nsfw"] and not channel.nsfw:
        raise hidden
    held = permissions_in(user, channel)
    needed = command["default_member_permissions"]
    if Permission.USE_APPLICATION_COMMANDS not in held:
        raise hidden
    if needed is not None:
        wanted = int(needed)
        if not (held & wanted == wanted if wanted else Permission.ADMINISTRATOR in held):
            raise hidden


def check_command(form: Form, body: Json, *path: str | int) -> None:
    """Note what Discord would refuse about one command."""
    name = body.get("name", "")
    if body.get("type", CHAT_INPUT) != CHAT_INPUT:
        form.length(name, 1, 32, *path, "name")
        for locale, text in _localizations(body, "name"):
            form.length(text, 1, 32, *path, "name_localizations", locale)
        return
    _check_words(form, body, *path)
    _check_options(form, body.get("options") or [], *path, "options")


def _localizations(body: Json, field: str) -> Iterable[tuple[str, Any]]:
    translations: Json = body.get(f"{field}_localizations") or {}
    return translations.items()


def _check_words(form: Form, body: Json, *path: str | int) -> None:
    """Note what is wrong with the name and description, and with each of their translations."""
    _check_name(form, body.get("name", ""), *path, "name")
    form.length(body.get("description"), 1, 100, *path, "description")
    for locale, text in _localizations(body, "name"):
        _check_name(form, text, *path, "name_localizations", locale)
    for locale, text in _localizations(body, "description"):
        form.length(text, 1, 100, *path, "description_localizations", locale)


def _check_name(form: Form, name: Any, *path: str | int) -> None:
    if not isinstance(name, str) or not _NAME.match(name) or name != name.lower():
        text = "Command name is invalid"
        form.add(*path, code="APPLICATION_COMMAND_INVALID_NAME", message=text)


def _check_options(form: Form, options: list[Json], *path: str | int) -> None:
    form.count(len(options), 0, 25, *path)
    optional_seen = False
    names: set[str] = set()
    for index, option in enumerate(options):
        here = (*path, index)
        _check_words(form, option, *here)
        if option.get("name") in names:
            text = "Option names must be unique"
            form.add(*here, code="APPLICATION_COMMAND_OPTIONS_NAME_INVALID", message=text)
        names.add(str(option.get("name")))
        if option.get("type") in (Option.SUBCOMMAND, Option.GROUP):
            _check_options(form, option.get("options") or [], *here, "options")
            continue
        if option.get("required") and optional_seen:
            text = "Required options must be placed before non-required options"
            form.add(*here, code="APPLICATION_COMMAND_OPTIONS_REQUIRED_INVALID", message=text)
        optional_seen = optional_seen or not option.get("required")
        choices: list[Json] = option.get("choices") or []
        form.count(len(choices), 0, 25, *here, "choices")
        for number, choice in enumerate(choices):
            there = (*here, "choices", number)
            form.length(choice.get("name"), 1, 100, *there, "name")
            for locale, text in _localizations(choice, "name"):
                form.length(text, 1, 100, *there, "name_localizations", locale)
        if choices and option.get("autocomplete"):
            text = "Cannot have autocomplete and choices"
            form.add(*here, code="APPLICATION_COMMAND_OPTIONS_CHOICES_INVALID", message=text)
