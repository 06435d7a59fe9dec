"""The backend of an engine, for one model at a time."""

from __future__ import annotations

from bot.engine.child.backend import Backend
from bot.engine.models.switching import ModelSwitch
from bot.engine.options import EngineOptions


def build(model: str, options: EngineOptions) -> Backend:
    """Return the backend for `model` and those that it may be switched to, not loaded yet."""
    return ModelSwitch(model, options)
