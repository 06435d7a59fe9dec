"""Changes of a server's settings, each made from what is stored at that moment.

A function here gets the stored values and returns what changes; `Preferences.edit_guild` runs it in
the transaction that stores its result, so that two admins at once lose nothing of each other's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

from bot.catalogue.styles import MOST_OWN, Style, from_values, to_values
from bot.errors import InvalidRequest
from bot.rules import edit_rules, model_rules
from bot.rules.edit_rules import MOST_EDIT_ROLES, EditRules, Whose
from bot.rules.model_rules import MOST_MODEL_ROLES, ModelRules
from bot.rules.prompt_rules import MOST_RULES
from bot.rules.server_limits import MOST_ROLES, NAME, Bounds, RoleLimit, ServerLimits
from bot.words import _

Values = Mapping[str, Any]


def stored_list(values: Values, name: str) -> list[Any]:
    """Return a stored list; empty where there is none, or something else."""
    found = values.get(name)
    return cast("list[Any]", found) if isinstance(found, list) else []


def rules_of(values: Values) -> tuple[str, ...]:
    """Return what prompts may not say."""
    return tuple(map(str, stored_list(values, "rules")))


def denied_channels_of(values: Values) -> tuple[int, ...]:
    """Return the channels where nothing is drawn."""
    return tuple(id_ for id_ in stored_list(values, "denied_channels") if isinstance(id_, int))


def denied_categories_of(values: Values) -> dict[int, list[int]]:
    """Return the categories where nothing is drawn, each with the channels it had when closed.

    Those are for what was waiting then: a job knows its channel, and not what that stands in.
    """
    found = values.get("denied_categories")
    if not isinstance(found, dict):
        return {}
    stored = cast("dict[str, Any]", found)
    return {
        int(key): [id_ for id_ in stored_list(stored, key) if isinstance(id_, int)]
        for key in stored
        if key.isdecimal()
    }


def closed_places_of(values: Values) -> frozenset[int]:
    """Return the channels and categories where nothing is drawn."""
    return frozenset(denied_channels_of(values)) | denied_categories_of(values).keys()


def with_rule(values: Values, rule: str) -> Values:
    """Add a rule; raise `InvalidRequest` where there are too many."""
    rules = [other for other in rules_of(values) if other != rule]
    if len(rules) >= MOST_RULES:
        raise InvalidRequest(_("A server may have {limit} rules.").format(limit=MOST_RULES))
    return {"rules": [*rules, rule]}


def without_rule(values: Values, rule: str) -> Values:
    """Remove a rule; raise `InvalidRequest` where there is no such rule."""
    rules = rules_of(values)
    if rule not in rules:
        raise InvalidRequest(_("There is no such rule."))
    return {"rules": [other for other in rules if other != rule]}


def with_channel(values: Values, channel_id: int, *, on: bool) -> Values:
    """Allow drawing in a channel, or deny it."""
    denied = set(denied_channels_of(values)) - {channel_id}
    return {"denied_channels": sorted(denied if on else denied | {channel_id})}


def with_category(
    values: Values, category_id: int, channel_ids: Iterable[int], *, on: bool
) -> Values:
    """Allow drawing in a category, or deny it; `channel_ids` are the channels that it has."""
    denied = denied_categories_of(values)
    denied.pop(category_id, None)
    if not on:
        denied[category_id] = sorted(channel_ids)
    return {"denied_categories": {str(key): within for key, within in denied.items()} or None}


def with_style(values: Values, new: Style) -> Values:
    """Add a style or replace the one of its name; raise `InvalidRequest` for too many."""
    own = from_values(values.get("styles"))
    others = [style for style in own if style.name.casefold() != new.name.casefold()]
    if len(others) >= MOST_OWN:
        raise InvalidRequest(
            _("A server may have {limit} styles of its own.").format(limit=MOST_OWN)
        )
    return {"styles": to_values([*others, new])}


def without_style(values: Values, name: str) -> Values:
    """Remove a style; raise `InvalidRequest` where there is no style of that name."""
    own = from_values(values.get("styles"))
    others = [style for style in own if style.name.casefold() != name.casefold()]
    if len(others) == len(own):
        raise InvalidRequest(_("This server has no style of that name."))
    return {"styles": to_values(others)}


def with_role_limit(values: Values, role_id: int, limit: RoleLimit) -> Values:
    """Set a role's limit; raise `InvalidRequest` where there are too many."""
    now = ServerLimits.read(values)
    roles = {**now.roles, role_id: limit}
    if len(roles) > MOST_ROLES:
        raise InvalidRequest(_("At most {limit} roles can have limits.").format(limit=MOST_ROLES))
    return {NAME: replace(now, roles=roles).to_values()}


def without_role_limit(values: Values, role_id: int) -> Values:
    """Remove a role's limit; raise `InvalidRequest` where there is none."""
    now = ServerLimits.read(values)
    if role_id not in now.roles:
        raise InvalidRequest(_("This role has no limit."))
    roles = {other: limit for other, limit in now.roles.items() if other != role_id}
    return {NAME: replace(now, roles=roles).to_values()}


def with_server_bounds(values: Values, bounds: Bounds) -> Values:
    """Set what all members of the server together may have."""
    return {NAME: replace(ServerLimits.read(values), server=bounds).to_values()}


def with_model_role(values: Values, model: str, role_id: int) -> Values:
    """Allow a role a model, which then is for such roles alone; raise `InvalidRequest`."""
    now = ModelRules.read(values).roles
    roles = dict.fromkeys((*now.get(model, ()), role_id))
    if len(roles) > MOST_MODEL_ROLES:
        raise InvalidRequest(
            _("At most {limit} roles can be named for a model.").format(limit=MOST_MODEL_ROLES)
        )
    return _with_models({**now, model: tuple(roles)})


def with_model_denied(values: Values, model: str) -> Values:
    """Let nobody use a model."""
    return _with_models({**ModelRules.read(values).roles, model: ()})


def without_model_rule(values: Values, model: str, role_id: int | None) -> Values:
    """Take a role's leave away, or without one all that is set about a model.

    Where the last role goes the model is for everyone again. Raises `InvalidRequest` where there is
    nothing of the kind.
    """
    now = dict(ModelRules.read(values).roles)
    roles = now.pop(model, None)
    if roles is None or (role_id is not None and role_id not in roles):
        raise InvalidRequest(_("Nothing of the kind is set about this model."))
    rest = () if role_id is None else tuple(id_ for id_ in roles if id_ != role_id)
    return _with_models({**now, model: rest} if rest else now)


def _with_models(roles: Mapping[str, tuple[int, ...]]) -> Values:
    return {model_rules.NAME: {name: list(ids) for name, ids in roles.items()} or None}


def with_edit_role(values: Values, role_id: int, most: Whose) -> Values:
    """Set the most that a role may edit; raise `InvalidRequest` where there are too many."""
    roles = {**EditRules.read(values).roles, role_id: most}
    if len(roles) > MOST_EDIT_ROLES:
        raise InvalidRequest(
            _("At most {limit} roles can be named about edits.").format(limit=MOST_EDIT_ROLES)
        )
    return {edit_rules.NAME: EditRules(roles).to_values()}


def without_edit_role(values: Values, role_id: int) -> Values:
    """Forget what a role may edit; raise `InvalidRequest` where nothing is set about it."""
    roles = dict(EditRules.read(values).roles)
    if roles.pop(role_id, None) is None:
        raise InvalidRequest(_("Nothing is set about what this role may edit."))
    return {edit_rules.NAME: EditRules(roles).to_values()}
