"""The toy networks on the streamed path: the code of the full size, on the CPU."""

from __future__ import annotations

from typing import Any

import torch

from bot.engine.models.streamed_networks import Networks, precision_of
from bot.engine.options import EngineOptions, LoadProgress
from bot.engine.stream.decode import PictureCodec
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.prompts import PromptEmbedder
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.transformer import StreamedDiT
from bot.engine.tiny import model as tiny


def load(model: str, options: EngineOptions, progress: LoadProgress) -> Networks:
    """Return the toy networks, on the CPU in float32, their weights as `options` say.

    `int8-fast` and `fp8-fast` are there for their numerics: on a CPU they are slower than widening
    the weights.
    """
    pipe: Any = tiny.assemble(progress, style=tiny.style_of(model))
    precision = precision_of(options.precision)
    dit = StreamedDiT.from_module(
        pipe.dit, TransformerSettings(device="cpu", dtype=torch.float32, precision=precision)
    )
    encoder = StreamedTextEncoder.from_module(
        pipe.text_encoder, dit.device, torch.float32, storage=precision.storage
    )
    codec = PictureCodec(pipe.vae, dit.device, torch.float32)
    embedder = PromptEmbedder(pipe.tokenizer, encoder, model=f"{model} {precision}")
    return Networks(dit, embedder, codec, "cpu")
