"""Qwen-Image-2.1 at full size, streamed: a single stream, Qwen3-VL, a VAE with transparency.

What is transparent in its pictures is laid on white, unless the alpha channel is asked for.
"""

from __future__ import annotations

from typing import Any, Final

from bot.engine.files.find import ModelFiles
from bot.engine.models.shelf import NetworkShelf
from bot.engine.models.streamed_card import StreamedFamily, load_on_card
from bot.engine.models.streamed_networks import Networks
from bot.engine.options import EngineOptions, LoadProgress
from bot.engine.stream.loading import load_vae_21, text_config_21
from bot.engine.stream.prompts_21 import read_qwen_image_21
from bot.engine.stream.text_layout import QWEN3
from bot.engine.stream.transformer_kind import SINGLE


def _tokenizer(files: ModelFiles) -> Any:
    from transformers import Qwen2Tokenizer  # noqa: PLC0415 - slow to import

    return Qwen2Tokenizer.from_pretrained(str(files.folder / "processor"))


FAMILY: Final = StreamedFamily(
    SINGLE, QWEN3, text_config_21, load_vae_21, _tokenizer, read_qwen_image_21
)


def load(
    model: str, options: EngineOptions, progress: LoadProgress, shelf: NetworkShelf
) -> Networks:
    """Build the networks on the first CUDA GPU.

    Raises `EngineError` (`LOAD_FAILED`) without such a GPU or without the model's files.
    """
    return load_on_card(model, options, progress, shelf, FAMILY)
