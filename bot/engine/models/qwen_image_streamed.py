"""Qwen-Image at full size, streamed: its files made into networks within the memory budget."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import torch

from bot.engine.card_budget import CardBudget
from bot.engine.files.find import (
    COMPILED_FOLDER,
    cache_folder,
    cache_indexes,
    cached_precision,
    ensure,
)
from bot.engine.models.streamed_networks import Networks, precision_of
from bot.engine.models.vram import require_gpu, take_budget
from bot.engine.options import EngineOptions, LoadProgress
from bot.engine.stream import budget as budgets
from bot.engine.stream.decode import working_bytes
from bot.engine.stream.device import open_device
from bot.engine.stream.loading import (
    load_text_encoder,
    load_transformer,
    load_vae,
    text_config,
)
from bot.engine.stream.prompts import PromptEmbedder
from bot.engine.stream.published import Sources
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.warming import warm_up
from bot.words import mark

USUAL_TEXT_TOKENS: Final = 1024
"""Two prompts of about a page each; longer ones use up room of the activations."""


def load(model: str, options: EngineOptions, progress: LoadProgress) -> Networks:
    """Build the networks on the first CUDA GPU.

    Raises `EngineError` (`LOAD_FAILED`) without such a GPU or without the model's files.
    """
    require_gpu()
    root, stored = options.model_path, cached_precision(model, "stream", options.precision)
    files = ensure(root, progress, repository=model, source=options.model_source, precision=stored)
    budget = take_budget(options)
    cache, indexes = (
        cache_folder(root, model, options.precision),
        cache_indexes(root, model, stored),
    )
    device, dtype = open_device("cuda"), torch.bfloat16
    precision = precision_of(options.precision)
    # The small ones first: the transformer takes what they leave.
    codec = load_vae(Sources(files.vae), device, dtype)
    encoder, _ = load_text_encoder(
        Sources(files.text_encoder, indexes.get("text encoder")),
        text_config(),
        device,
        dtype,
        cache,
        progress,
        storage=precision.storage,
    )
    settings = transformer_settings(
        options,
        budget,
        others=codec.weight_bytes + encoder.small_bytes,
        encoding=encoder.working_bytes(USUAL_TEXT_TOKENS),
    )
    transformer = Sources(files.transformer, indexes.get("transformer"))
    dit, _ = load_transformer(transformer, settings, cache, progress)
    if dit.execution.compiled:
        progress(mark("compiling the blocks (once; later starts use the cache)"), None)
        warm_up(dit)
    embedder = PromptEmbedder(_tokenizer(files.tokenizer), encoder, model=f"{model} {precision}")
    codec.give_way = dit.residency.give_way
    measure = partial(take_budget, options)
    return Networks(dit, embedder, codec, torch.cuda.get_device_name(), measure, budget)


def transformer_settings(
    options: EngineOptions, budget: CardBudget, *, others: int, encoding: int
) -> TransformerSettings:
    """Return the settings of the transformer, in bfloat16 on the first card.

    `others` are bytes of the card that the other networks take, `encoding` what the text encoder
    takes while it works.
    """
    dtype, usual = torch.bfloat16, budgets.Work(1344, 768)
    decoding = working_bytes(usual.width, usual.height, dtype.itemsize, tiled=True)
    return TransformerSettings(
        device="cuda",
        dtype=dtype,
        precision=precision_of(options.precision),
        budget=budget.bytes,
        foreign=budget.held_by_others,
        compile=options.compile,
        cache=options.model_path / COMPILED_FOLDER,
        usual=usual,
        others=others,
        others_working=max(encoding, decoding),
    )


def _tokenizer(folder: Any) -> Any:
    from transformers import Qwen2Tokenizer  # noqa: PLC0415 - slow to import

    return Qwen2Tokenizer.from_pretrained(str(folder))
