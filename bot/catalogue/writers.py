"""The models whose text encoder writes, and those of them that see pictures while they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bot.catalogue.models import ModelSpec

# Families whose text encoder is a whole language model; the engine has the vision tower of the
# first one's alone write along.
_LOOKING: Final = "qwen-image"
_WRITING: Final = frozenset({_LOOKING, "qwen-image-21"})
_TOY: Final = "tiny"


def writes(spec: ModelSpec) -> bool:
    """Tell whether a model writes: one that this bot's own engine streams.

    Of the toy models it is the one that edits alone, so that a bot can be tried without a writer.
    """
    return spec.streamed and (spec.family in _WRITING or _is_toy(spec))


def looks(spec: ModelSpec) -> bool:
    """Tell whether a model sees the pictures that it writes of."""
    return spec.streamed and (spec.family == _LOOKING or _is_toy(spec))


def _is_toy(spec: ModelSpec) -> bool:
    return spec.family == _TOY and spec.references > 0


def writer(
    models: Sequence[ModelSpec], preferred: ModelSpec | None = None, *, seeing: bool = False
) -> ModelSpec | None:
    """Return the model that writes: `preferred` where it can, else the first of `models` that does.

    With `seeing` it has to see pictures. None where none can.
    """
    able = looks if seeing else writes
    return next((spec for spec in _candidates(models, preferred) if able(spec)), None)


def rewriter(
    models: Sequence[ModelSpec], preferred: ModelSpec | None = None, *, pictures: bool
) -> ModelSpec | None:
    """Return the model that rewrites prompts, chosen as `writer` does; None where none can.

    Of an instruction for `pictures` it is one that sees them, where there is one: another than
    `preferred` too. The toy model was taught to rewrite descriptions, and no instructions.
    """
    if not pictures:
        return writer(models, preferred)
    taught = [spec for spec in _candidates(models, preferred) if not spec.built_in]
    return writer(taught, seeing=True) or writer(taught)


def _candidates(models: Sequence[ModelSpec], preferred: ModelSpec | None) -> Sequence[ModelSpec]:
    return models if preferred is None else (preferred, *models)
