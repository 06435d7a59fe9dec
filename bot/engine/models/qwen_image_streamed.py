"""Qwen-Image at full size, streamed."""

from __future__ import annotations

from typing import Any, Final

from bot.engine.files.find import ModelFiles
from bot.engine.models.shelf import NetworkShelf
from bot.engine.models.streamed_card import StreamedFamily, load_on_card
from bot.engine.models.streamed_networks import Networks
from bot.engine.options import EngineOptions, LoadProgress
from bot.engine.stream.loading import load_vae, text_config
from bot.engine.stream.prompts import read_qwen_image
from bot.engine.stream.text_layout import QWEN25
from bot.engine.stream.transformer_kind import DOUBLE


def _tokenizer(files: ModelFiles) -> Any:
    from transformers import Qwen2Tokenizer  # noqa: PLC0415 - slow to import

    return Qwen2Tokenizer.from_pretrained(str(files.tokenizer))


FAMILY: Final = StreamedFamily(DOUBLE, QWEN25, text_config, load_vae, _tokenizer, read_qwen_image)


def load(
    model: str, options: EngineOptions, progress: LoadProgress, shelf: NetworkShelf
) -> Networks:
    """Build the networks on the first CUDA GPU.

    Raises `EngineError` (`LOAD_FAILED`) without such a GPU or without the model's files.
    """
    return load_on_card(model, options, progress, shelf, FAMILY)
