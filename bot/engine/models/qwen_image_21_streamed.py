"""Qwen-Image-2.1 at full size, streamed: a single stream, Qwen3-VL, a VAE with transparency.

What is transparent in its pictures is laid on white, unless the alpha channel is asked for. The
references of an edit keep theirs.
"""

from __future__ import annotations

from typing import Any, Final

from bot.engine.child.references import drawn_sizes
from bot.engine.files.model_files import ModelFiles
from bot.engine.models.shelf import NetworkShelf
from bot.engine.models.streamed_card import StreamedFamily, load_on_card
from bot.engine.models.streamed_networks import Networks
from bot.engine.options import EngineOptions, LoadProgress
from bot.engine.stream.loading import load_vae_21, text_config_21
from bot.engine.stream.prompts_21 import places_21, read_edit_21, read_qwen_image_21
from bot.engine.stream.text_layout import QWEN3
from bot.engine.stream.transformer_kind import SINGLE
from bot.engine.stream.vision_loading import vision_config_21


def _tokenizer(files: ModelFiles) -> Any:
    from transformers import Qwen2Tokenizer  # noqa: PLC0415 - slow to import

    return Qwen2Tokenizer.from_pretrained(str(files.words / "processor"))


FAMILY: Final = StreamedFamily(
    SINGLE,
    QWEN3,
    text_config_21,
    load_vae_21,
    _tokenizer,
    read_qwen_image_21,
    vision=vision_config_21,
    pictures=1,
    references=drawn_sizes,
    read_edit=read_edit_21,
    places=places_21,
)


def load(
    model: str, options: EngineOptions, progress: LoadProgress, shelf: NetworkShelf
) -> Networks:
    """Build the networks on the first CUDA GPU.

    Raises `EngineError` (`LOAD_FAILED`) without such a GPU or without the model's files.
    """
    return load_on_card(model, options, progress, shelf, FAMILY)
