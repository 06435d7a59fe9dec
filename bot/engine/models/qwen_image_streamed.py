"""Qwen-Image at full size, streamed, and Qwen-Image-Edit, which looks at pictures besides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from bot.catalogue.models import ModelSpec, find_model
from bot.engine.child.references import edit_sizes
from bot.engine.files.model_files import ModelFiles
from bot.engine.models.shelf import NetworkShelf
from bot.engine.models.streamed_card import StreamedFamily, load_on_card
from bot.engine.models.streamed_networks import Networks
from bot.engine.options import EngineOptions, LoadProgress
from bot.engine.stream.loading import load_vae, text_config
from bot.engine.stream.prompts import read_qwen_image
from bot.engine.stream.text_layout import QWEN25
from bot.engine.stream.transformer_kind import DOUBLE, ZERO_COND
from bot.engine.stream.vision_loading import vision_config


def _tokenizer(files: ModelFiles) -> Any:
    from transformers import Qwen2Tokenizer  # noqa: PLC0415 - slow to import

    return Qwen2Tokenizer.from_pretrained(str(files.tokenizer))


FAMILY: Final = StreamedFamily(
    DOUBLE, QWEN25, text_config, load_vae, _tokenizer, read_qwen_image, vision_config
)


def family_of(spec: ModelSpec) -> StreamedFamily:
    """Return what the networks of a model of this family are made with."""
    if not spec.references:
        return FAMILY
    return replace(
        FAMILY,
        transformer=ZERO_COND if spec.zero_cond_t else DOUBLE,
        pictures=spec.references,
        references=edit_sizes,
        edits=True,
    )


def load(
    model: str, options: EngineOptions, progress: LoadProgress, shelf: NetworkShelf
) -> Networks:
    """Build the networks on the first CUDA GPU.

    Raises `EngineError` (`LOAD_FAILED`) without such a GPU or without the model's files.
    """
    return load_on_card(model, options, progress, shelf, family_of(find_model(model)))
