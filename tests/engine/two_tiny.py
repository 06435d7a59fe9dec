"""The toy models, of which `tiny-ink` waits while it is held."""

from __future__ import annotations

import threading
from typing import Any

from bot.engine.models.switching import ModelSwitch


def build(model: str, options: Any) -> ModelSwitch:
    """The real backend; `tiny-ink` loads on once `go` lies in the model's folder, if `hold` does."""
    from bot.engine.tiny import streamed

    real = streamed.load

    def load(model: str, options: Any, progress: Any, shelf: Any) -> Any:
        if model == "tiny-ink" and (options.model_path / "hold").exists():
            while not (options.model_path / "go").exists():
                progress("held", None)
                threading.Event().wait(0.01)
        return real(model, options, progress, shelf)

    streamed.load = load
    return ModelSwitch(model, options)
