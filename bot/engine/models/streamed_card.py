"""A streamed family's networks at full size: its files made into networks within a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch

from bot.engine.card_budget import CardBudget
from bot.engine.files.find import (
    COMPILED_FOLDER,
    ModelFiles,
    cache_folder,
    cache_indexes,
    cached_precision,
    ensure,
)
from bot.engine.models.streamed_networks import Networks, precision_of
from bot.engine.models.vram import require_gpu, take_budget
from bot.engine.options import EngineOptions, LoadProgress
from bot.engine.stream import budget as budgets
from bot.engine.stream.decode import PictureCodec, working_bytes
from bot.engine.stream.device import Device, open_device
from bot.engine.stream.loading import load_text_encoder, load_transformer
from bot.engine.stream.prompts import PromptEmbedder, Read
from bot.engine.stream.published import Sources
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.text_layout import TextFamily
from bot.engine.stream.transformer_kind import TransformerKind
from bot.engine.stream.vae_kind import QWEN_IMAGE_VAE, VaeKind
from bot.engine.stream.warming import warm_up
from bot.words import mark

USUAL_TEXT_TOKENS: Final = 1024
"""Two prompts of about a page each; longer ones use up room of the activations."""


@dataclass(frozen=True, slots=True)
class StreamedFamily:
    """What a family's networks are made with.

    `text_config` returns the language model's configuration, `vae` the codec of its files in a
    type on a device, `tokenizer` what `read` is given.
    """

    transformer: TransformerKind
    text: TextFamily
    text_config: Callable[[], Any]
    vae: Callable[[Sources, Device, torch.dtype], PictureCodec]
    tokenizer: Callable[[ModelFiles], Any]
    read: Read


def load_on_card(
    model: str, options: EngineOptions, progress: LoadProgress, family: StreamedFamily
) -> Networks:
    """Build the networks on the first CUDA GPU.

    Raises `EngineError` (`LOAD_FAILED`) without such a GPU or without the model's files.
    """
    require_gpu()
    stored = cached_precision(model, "stream", options.precision)
    source = options.model_source
    files = ensure(options.model_path, progress, repository=model, source=source, precision=stored)
    budget = take_budget(options)
    networks = assemble(model, files, options, progress, family, budget)
    networks.device_name = torch.cuda.get_device_name()
    networks.measure = partial(take_budget, options)
    return networks


def assemble(
    model: str,
    files: ModelFiles,
    options: EngineOptions,
    progress: LoadProgress,
    family: StreamedFamily,
    budget: CardBudget,
    device_name: str = "cuda",
) -> Networks:
    """Load the networks for a device, within `budget`, from and to the model's weights cache.

    Raises `EngineError` (`LOAD_FAILED`) where a file is damaged or another model's.
    """
    root = options.model_path
    cache = cache_folder(root, model, options.precision)
    indexes = cache_indexes(root, model, cached_precision(model, "stream", options.precision))
    device, dtype = open_device(device_name), torch.bfloat16
    precision = precision_of(options.precision)
    # The small ones first: the transformer takes what they leave.
    codec = family.vae(Sources(files.vae), device, dtype)
    encoder, _ = load_text_encoder(
        Sources(files.text_encoder, indexes.get("text encoder")),
        family.text_config(),
        device,
        dtype,
        cache,
        progress,
        storage=precision.storage,
        family=family.text,
    )
    settings = transformer_settings(
        options,
        budget,
        others=codec.weight_bytes + encoder.small_bytes,
        encoding=encoder.working_bytes(USUAL_TEXT_TOKENS),
        vae=codec.kind,
        device=device_name,
    )
    transformer = Sources(files.transformer, indexes.get("transformer"))
    dit, _ = load_transformer(transformer, settings, cache, progress, family.transformer)
    if dit.execution.compiled:
        progress(mark("compiling the blocks (once; later starts use the cache)"), None)
        warm_up(dit)
    embedder = PromptEmbedder(
        family.tokenizer(files), encoder, model=f"{model} {precision}", read=family.read
    )
    codec.give_way = dit.residency.give_way
    return Networks(dit, embedder, codec, device_name, budget=budget)


def transformer_settings(
    options: EngineOptions,
    budget: CardBudget,
    *,
    others: int,
    encoding: int,
    vae: VaeKind = QWEN_IMAGE_VAE,
    device: str = "cuda",
) -> TransformerSettings:
    """Return the settings of the transformer, in bfloat16.

    `others` are bytes of the card that the other networks take, `encoding` what the text encoder
    takes while it works.
    """
    dtype, usual = torch.bfloat16, budgets.Work(1344, 768)
    decoding = working_bytes(usual.width, usual.height, dtype.itemsize, tiled=True, kind=vae)
    return TransformerSettings(
        device=device,
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
