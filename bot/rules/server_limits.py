"""Limits that a server's admins have set, for the server and for roles; kept in its settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self, TypeVar, cast

N = TypeVar("N", int, float)

NAME: Final = "limits"
"""The key in `guilds.settings`."""
MOST_ROLES: Final = 25
WEIGHT_MIN: Final = 0.1
WEIGHT_MAX: Final = 10.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Pictures and GPU seconds in any 24 hours; None is no bound."""

    images: int | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, images: float, seconds: float) -> Self:
        """Return the bounds of two settings, where 0 is no bound."""
        return cls(int(images) or None, seconds or None)

    @property
    def empty(self) -> bool:
        """Whether nothing is bounded."""
        return self.images is None and self.seconds is None

    def or_less(self, other: Bounds) -> Bounds:
        """Return the smaller bound of each kind."""
        return Bounds(_least(self.images, other.images), _least(self.seconds, other.seconds))

    def or_more(self, other: Bounds) -> Bounds:
        """Return the larger of what both bound, and this one's where the other says nothing."""
        return Bounds(_most(self.images, other.images), _most(self.seconds, other.seconds))


@dataclass(frozen=True, slots=True)
class RoleLimit:
    """What one role may have in its server.

    `granted` by the bot's owner, it may be more than any user may have; else it is held below that.
    `weight` divides what its members were served in the fair order within the server.
    """

    bounds: Bounds = field(default_factory=Bounds)
    weight: float | None = None
    granted: bool = False


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """A server's own limits: in all, and by role id (the server's own id is @everyone)."""

    server: Bounds = field(default_factory=Bounds)
    roles: Mapping[int, RoleLimit] = field(default_factory=dict[int, RoleLimit])

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        """Read a server's stored settings; what is of an unexpected type counts as not set."""
        values = _mapping(settings.get(NAME))
        roles: dict[int, RoleLimit] = {}
        for key, value in _mapping(values.get("roles")).items():
            one = _mapping(value)
            if key.isdecimal():
                weight = _positive(one.get("weight"))
                roles[int(key)] = RoleLimit(
                    _bounds(one),
                    min(max(weight, WEIGHT_MIN), WEIGHT_MAX) if weight else None,
                    one.get("granted") is True,
                )
        return cls(_bounds(_mapping(values.get("server"))), roles)

    def to_values(self) -> dict[str, Any]:
        """Return what `read` reads, to be stored under `NAME`."""
        return {
            "server": asdict(self.server),
            "roles": {
                str(role_id): {
                    **asdict(one.bounds),
                    "weight": one.weight,
                    "granted": one.granted,
                }
                for role_id, one in self.roles.items()
            },
        }

    def member(self, held: Collection[int], base: Bounds) -> Bounds:
        """Return what these roles allow in the server: the highest of each kind.

        `base` is what any user may have; only what the bot's owner granted goes beyond it.
        """
        found = Bounds()
        for role_id in self.roles.keys() & set(held):
            one = self.roles[role_id]
            own = one.bounds
            if not one.granted:
                own = Bounds(
                    None if own.images is None else _least(own.images, base.images),
                    None if own.seconds is None else _least(own.seconds, base.seconds),
                )
            found = Bounds(
                own.images if found.images is None else _most(found.images, own.images),
                own.seconds if found.seconds is None else _most(found.seconds, own.seconds),
            )
        return found

    def weight(self, held: Collection[int]) -> float:
        """Return the highest weight of these roles; 1 where none has one."""
        weights = [self.roles[role_id].weight for role_id in self.roles.keys() & set(held)]
        return max((weight for weight in weights if weight is not None), default=1.0)


def _least(one: N | None, other: N | None) -> N | None:
    known = [value for value in (one, other) if value is not None]
    return min(known) if known else None


def _most(one: N | None, other: N | None) -> N | None:
    if one is None or other is None:
        return one
    return max(one, other)


def _mapping(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _positive(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
        return float(value)
    return None


def _bounds(values: Mapping[str, Any]) -> Bounds:
    images = _positive(values.get("images"))
    return Bounds(None if images is None else int(images), _positive(values.get("seconds")))
