"""The toy networks on the streamed path: the code of the full size, on the CPU."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from bot.catalogue.models import find_model
from bot.engine.child.references import tiny_sizes
from bot.engine.models.shelf import Content, NetworkShelf, Recipe
from bot.engine.models.streamed_networks import Networks, precision_of
from bot.engine.options import EngineOptions, LoadProgress
from bot.engine.stream.decode import PictureCodec
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.offload import (
    OffloadableCodec,
    OffloadableEmbedder,
    OffloadableTransformer,
)
from bot.engine.stream.prompts import PromptEmbedder
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.transformer import StreamedDiT
from bot.engine.stream.transformer_kind import DOUBLE, ZERO_COND
from bot.engine.stream.vision import StreamedVisionTower
from bot.engine.stream.writing import StreamedWriter
from bot.engine.tiny import model as tiny


def load(
    model: str, options: EngineOptions, progress: LoadProgress, shelf: NetworkShelf
) -> Networks:
    """Return the toy networks, on the CPU in float32, their weights as `options` say.

    `int8-fast` and `fp8-fast` are there for their numerics: on a CPU they are slower than widening
    the weights.
    """
    pipe: Any = None
    recipe = shelf.recipe(model)
    if recipe is None:
        pipe = tiny.assemble(progress, style=tiny.style_of(model), edits=tiny.edits(model))
        recipe = _recipe(model, pipe)
    shelf.settle(recipe)
    # What is on the shelf takes the place of what was just made, which is the same.
    codec, embedder, dit = (shelf.take(content, None) for content in reversed(recipe))
    precision = precision_of(options.precision)
    if dit is None:
        settings = TransformerSettings(device="cpu", dtype=torch.float32, precision=precision)
        kind = ZERO_COND if find_model(model).zero_cond_t else DOUBLE
        dit = StreamedDiT.from_module(pipe.dit, settings, kind.network)
        shelf.add(recipe[0], OffloadableTransformer(dit))
    if embedder is None:
        encoder = StreamedTextEncoder.from_module(
            pipe.text_encoder, dit.device, torch.float32, storage=precision.storage
        )
        # Of models that do not look at pictures too, which share it.
        encoder.vision = StreamedVisionTower.from_module(
            pipe.text_encoder, dit.device, torch.float32, encoder.streamer
        )
        embedder = PromptEmbedder(pipe.tokenizer, encoder, model=f"{model} {precision}")
        embedder.writer = StreamedWriter(encoder, pipe.text_encoder.lm_head.weight)
        shelf.add(recipe[1], OffloadableEmbedder(embedder))
    if codec is None:
        codec = PictureCodec(pipe.vae, dit.device, torch.float32)
        shelf.add(recipe[2], OffloadableCodec(codec))
    shelf.note(model, recipe)
    return Networks(dit, embedder, codec, "cpu", references=tiny_sizes)


def _recipe(model: str, pipe: Any) -> Recipe:
    return (
        Content("transformer", model),
        Content("text encoder", _digest(pipe.text_encoder)),
        Content("VAE", _digest(pipe.vae)),
    )


def _digest(network: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
