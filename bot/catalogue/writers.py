"""The models whose text encoder writes, and sees pictures while it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bot.catalogue.models import ModelSpec

# Families whose text encoder is a whole language model with a vision tower.
_WRITING: Final = frozenset({"qwen-image", "qwen-image-21"})
_TOY: Final = "tiny"


def writes(spec: ModelSpec) -> bool:
    """Tell whether a model writes: one that this bot's own engine streams.

    Of the toy models it is the one that edits alone, so that a bot can be tried without a writer.
    """
    return spec.streamed and (spec.family in _WRITING or _is_toy(spec))


def _is_toy(spec: ModelSpec) -> bool:
    return spec.family == _TOY and spec.references > 0


def writer(models: Sequence[ModelSpec], preferred: ModelSpec | None = None) -> ModelSpec | None:
    """Return the model that writes: `preferred` where it can, else the first of `models` that does.

    None where none can.
    """
    return next((spec for spec in _candidates(models, preferred) if writes(spec)), None)


def rewriter(
    models: Sequence[ModelSpec], preferred: ModelSpec | None = None, *, pictures: bool
) -> ModelSpec | None:
    """Return the model that rewrites prompts, chosen as `writer` does; None where none can.

    Of an instruction for `pictures` it is no toy model: that was taught to rewrite descriptions
    alone.
    """
    if not pictures:
        return writer(models, preferred)
    return writer([spec for spec in _candidates(models, preferred) if not spec.built_in])


def _candidates(models: Sequence[ModelSpec], preferred: ModelSpec | None) -> Sequence[ModelSpec]:
    return models if preferred is None else (preferred, *models)
