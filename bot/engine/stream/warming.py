"""The warm-up: an empty step, for which all is compiled that the usual picture needs."""

from __future__ import annotations

import torch

from bot.engine.stream.transformer import StreamedDiT


def warm_up(dit: StreamedDiT) -> None:
    """Predict once for the usual picture, from zeros.

    Raises `EngineError` (`OUT_OF_MEMORY`) where the budget has no room for that picture.
    """
    work = dit.settings.usual
    prompts = [torch.zeros(n, dit.network.text_width) for n in work.text_tokens]
    schedule = torch.tensor([1000.0])
    shape = dit.network.latents
    generation = dit.prepare(
        prompts,
        schedule,
        width=work.width,
        height=work.height,
        pictures=work.pictures,
        references=[torch.zeros(shape.of(1, *size)) for size in work.references],
    )
    latents = torch.zeros(shape.of(work.pictures, work.width, work.height))
    dit.predict(generation, 0, latents, 4.0)
    dit.device.synchronise()
