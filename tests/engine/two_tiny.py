"""The toy models, of which `tiny-ink` has a transformer of its own, and waits while it is held."""

from __future__ import annotations

import threading
from typing import Any

from bot.engine.models.switching import ModelSwitch


def build(model: str, options: Any) -> ModelSwitch:
    """The real backend; `tiny-ink` loads on once `go` lies in the model's folder, if `hold` does."""
    from bot.engine.tiny import model as tiny
    from bot.engine.tiny import streamed

    real, assemble = streamed.load, tiny.assemble

    def other(*arguments: Any) -> Any:
        import torch

        pipe = assemble(*arguments)
        generator = torch.Generator().manual_seed(5)
        for parameter in pipe.dit.transformer_blocks.parameters():
            parameter.mul_(1 + 0.05 * torch.randn(parameter.shape, generator=generator))
        return pipe

    def load(model: str, options: Any, progress: Any, shelf: Any) -> Any:
        tiny.assemble = other if model == "tiny-ink" else assemble
        if model == "tiny-ink" and (options.model_path / "hold").exists():
            while not (options.model_path / "go").exists():
                progress("held", None)
                threading.Event().wait(0.01)
        return real(model, options, progress, shelf)

    streamed.load = load
    return ModelSwitch(model, options)
