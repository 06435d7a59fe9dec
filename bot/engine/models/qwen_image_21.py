"""Qwen-Image-2.1 by DiffSynth: a single-stream transformer, Qwen3-VL and a VAE with transparency.

The streaming engine draws it unless `IMAGE_OFFLOAD=stock`; this is its reference.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

import torch
from diffsynth.models import qwen_image_21_dit
from diffsynth.pipelines.qwen_image_21 import (
    QwenImage21Pipeline,
    QwenImage21Unit_InputImageEmbedder,
)

from bot.engine.card_budget import GIB, CardBudget
from bot.engine.files.model_files import ModelFiles
from bot.engine.models.adapted import Adapted, StartingLatents
from bot.engine.models.networks import load_networks, open_card
from bot.engine.models.on_card import CardTurn, NetworksOnCard
from bot.engine.models.vram import keep_precise
from bot.engine.options import EngineOptions, LoadProgress

_KNOWN: Final = {
    "transformer": "qwen_image_21_dit",
    "text encoder": "qwen_image_21_text_encoder",
    "VAE": "qwen_image_21_vae",
}
# A generous bound whatever the size: its VAE works in tiles where the budget asks for it.
_WORKING: Final = 6 * GIB


def load(model: str, options: EngineOptions, progress: LoadProgress) -> tuple[Adapted, float]:
    """Build the pipeline on the first CUDA GPU; return it and the budget in GiB.

    Raises `EngineError` (`LOAD_FAILED`) without such a GPU or without the model's files.
    """
    files, measure = open_card(model, options, progress)
    budget_gib = measure().bytes / GIB
    exact = options.precision == "bf16"
    return assemble(files, "cuda", measure, progress, exact=exact), budget_gib


def assemble(
    files: ModelFiles,
    device: str,
    measure: Callable[[], CardBudget],
    progress: LoadProgress,
    *,
    exact: bool,
) -> Adapted:
    """Load the networks for `device`, of which `measure` says how much they may take."""
    from transformers import AutoProcessor  # noqa: PLC0415 - slow to import

    mend_attention()
    budget_gib = measure().bytes / GIB
    found = load_networks(files, _KNOWN, device, budget_gib, progress, exact=exact)
    pipe: Any = QwenImage21Pipeline(device=device, torch_dtype=torch.bfloat16)
    pipe.dit = found["qwen_image_21_dit"]
    pipe.text_encoder = found["qwen_image_21_text_encoder"]
    pipe.vae = found["qwen_image_21_vae"]
    pipe.processor = AutoProcessor.from_pretrained(str(files.folder / "processor"))
    pipe.vram_management_enabled = pipe.check_vram_management_state()
    keep_precise(pipe)
    start = StartingLatents(_encode, "RGBA")
    on_card = NetworksOnCard(pipe, _turns, measure)
    return Adapted(
        pipe,
        QwenImage21Unit_InputImageEmbedder,
        start,
        on_card,
        tile_size=512,
        tile_stride=384,
    )


def _turns(_width: int, _height: int) -> tuple[CardTurn, ...]:
    return tuple(CardTurn((name,), _WORKING) for name in ("text_encoder", "dit", "vae"))


def mend_attention() -> None:
    """Give the transformer its attention function, which `quick_imports` left hollow."""
    real = importlib.import_module("diffsynth.core.attention.attention")
    qwen_image_21_dit.attention_forward = real.attention_forward


def _encode(pipe: Any, pixels: torch.Tensor) -> torch.Tensor:
    # In tiles: the encoder's first layers take as much as the decoder's last.
    return pipe.vae.encode(pixels, tiled=True, tile_size=512, tile_stride=384)
