"""Which roles of a server may use which models; kept in the server's settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self, cast

from bot.rules.refusals import ModelRefused

NAME: Final = "models"
"""The key in `guilds.settings`."""
MOST_MODEL_ROLES: Final = 25


@dataclass(frozen=True, slots=True)
class ModelRules:
    """A server's rules about models: the ids of the roles that may use one, by the model's name.

    A model that is not in it is for everyone, one without roles for nobody; the server's own id is
    @everyone.
    """

    roles: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        """Read a server's stored settings; what is of an unexpected type counts as not set."""
        found = settings.get(NAME)
        values = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        return cls(
            {
                name: tuple(id_ for id_ in cast("list[Any]", ids) if isinstance(id_, int))
                for name, ids in values.items()
                if isinstance(ids, list)
            }
        )

    def allows(self, model: str, held: Collection[int]) -> bool:
        """Tell whether who has the roles `held` may use a model."""
        roles = self.roles.get(model)
        return roles is None or not set(roles).isdisjoint(held)

    def require(self, model: str, held: Collection[int]) -> None:
        """Raise `ModelRefused` unless the model is allowed."""
        if not self.allows(model, held):
            raise ModelRefused(model, self.roles[model])


NO_MODEL_RULES: Final = ModelRules()
