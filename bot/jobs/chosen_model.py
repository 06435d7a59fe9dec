"""Choice of the model that draws a request: what was asked, the defaults, what a server allows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bot.catalogue.models import ModelSpec
from bot.catalogue.offered import find_offered, named
from bot.errors import InvalidRequest
from bot.rules.model_rules import NO_MODEL_RULES, ModelRules
from bot.rules.preferences import Defaults
from bot.words import _


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model that a request is composed for.

    `name` is what its job is submitted with; None where nobody chose: the configured model, and
    after a restart with another one, that.
    """

    spec: ModelSpec
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Models:
    """The models that are offered, the configured one first, to someone with the roles `held`.

    Where there is one alone no rule holds: nobody could change it.
    """

    offered: tuple[ModelSpec, ...]
    rules: ModelRules = NO_MODEL_RULES
    held: Collection[int] = frozenset()

    @property
    def several(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.offered) > 1

    @property
    def allowed(self) -> tuple[ModelSpec, ...]:
        """The models that may be used here."""
        if not self.several:
            return self.offered
        return tuple(spec for spec in self.offered if self.rules.allows(spec.name, self.held))

    def choose(self, text: str | None, defaults: Sequence[Defaults] = ()) -> ModelChoice:
        """Return the model that `text` means, else the first of the defaults that may be used here.

        Raises `InvalidRequest` for an unknown one, `ModelRefused` for one that is not allowed.
        """
        allowed = self.allowed
        if text is not None:
            found = find_offered(self.offered, text)
            if found is None:
                raise InvalidRequest(
                    _("There is no model of that name; there are: {known}.").format(
                        known=", ".join(f"`{spec.name}`" for spec in allowed or self.offered)
                    )
                )
            self.require(found)
            return ModelChoice(found, found.name)
        for default in defaults:
            wished = named(allowed, default.model) if default.model else None
            if wished is not None:
                return ModelChoice(wished, wished.name if self.several else None)
        configured = self.offered[0]
        if not allowed:
            self.require(configured)
        if configured in allowed:
            return ModelChoice(configured)
        return ModelChoice(allowed[0], allowed[0].name)

    def again(self, name: str | None, defaults: Sequence[Defaults] = ()) -> ModelChoice:
        """Return the model `name` of an earlier job; by `defaults` where it is no longer offered.

        None is the configured one. Raises `ModelRefused` where it is offered, and not allowed.
        """
        if name is None:
            self.require(self.offered[0])
            return ModelChoice(self.offered[0])
        found = named(self.offered, name)
        if found is None:
            return self.choose(None, defaults)
        self.require(found)
        return ModelChoice(found, found.name if self.several else None)

    def require(self, spec: ModelSpec) -> None:
        """Raise `ModelRefused` unless the model may be used here."""
        if self.several:
            self.rules.require(spec.name, self.held)
