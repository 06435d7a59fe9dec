"""Checks of one model, made for each model that is offered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import wraps

from bot.catalogue.models import ModelSpec
from bot.config.settings import Settings
from bot.doctor.finding import Check, Finding

ModelCheck = Callable[[Settings, ModelSpec], Iterable[Finding]]


def for_each_model(check: ModelCheck) -> Check:
    """Return the check of all offered models; where there are several, each line names its own."""

    @wraps(check)
    def every(settings: Settings) -> Iterator[Finding]:
        models = settings.models
        for spec in models:
            for found in check(settings, spec):
                yield found if len(models) == 1 else naming(spec, found)

    return every


def naming(spec: ModelSpec, found: Finding) -> Finding:
    """Return the finding with its model's name before it, unless that stands there already."""
    if found.text.removeprefix("of ").startswith((f"{spec.name}:", f"{spec.name} ")):
        return found
    return replace(found, text=f"{spec.name}: {found.text}")


def said_of(spec: ModelSpec, models: Sequence[ModelSpec]) -> str:
    """Return what a figure of several models is followed by, to say whose it is; else nothing."""
    return f" (for {spec.name})" if len(models) > 1 else ""
