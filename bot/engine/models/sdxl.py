"""Stable Diffusion XL by DiffSynth, with two corrections to how it reads a prompt.

DiffSynth 2.1.12 takes the pooled embedding from the first token, which under a causal mask knows
nothing of the prompt, and the first encoder's hidden state one layer too early. SDXL was trained
with the end token's, and with the last state but one (Podell et al. 2023, arXiv:2307.01952, section
2.1; `StableDiffusionXLPipeline.encode_prompt` of diffusers does so).
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any, Final

import torch
from diffsynth.models.stable_diffusion_xl_text_encoder import CLIPTextModelWithProjection
from diffsynth.pipelines.stable_diffusion_xl import (
    SDXLUnit_InputImageEmbedder,
    StableDiffusionXLPipeline,
)

from bot.engine.card_budget import GIB, CardBudget
from bot.engine.files.model_files import ModelFiles
from bot.engine.models.adapted import Adapted, StartingLatents
from bot.engine.models.networks import load_networks, open_card
from bot.engine.models.on_card import CardTurn, NetworksOnCard
from bot.engine.models.vram import keep_precise
from bot.engine.options import EngineOptions, LoadProgress
from bot.engine.stream.preview import LatentPreview

_KNOWN: Final = {
    "U-Net": "stable_diffusion_xl_unet",
    "text encoder": "stable_diffusion_text_encoder",
    "second text encoder": "stable_diffusion_xl_text_encoder",
    "VAE": "stable_diffusion_xl_vae",
}
# In DiffSynth's count from the end, where 0 is the last layer's.
_LAST_BUT_ONE: Final = 1
_PIXELS: Final = 8
"""A latent pixel stands for so many pixels, each way."""
_VAE_BYTES: Final = 2370
"""Of a pixel, in the decoder; the encoder takes less.

Where its last block is enlarged, 256 channels in 16 bits go through a convolution at the picture's
size: what goes in, what comes out (512 bytes each) and a copy of either in the convolution's own
layout are 2,048, and 2,200 with what was enlarged. Measured on an H100: 1024x1024 took 2.4 GiB
above the weights and 1536x1536 5.3, which are 2,340 bytes a pixel and 0.1 GiB.
"""
_UNET_BYTES: Final = 320
"""Of a pixel, in the U-Net, whose guidance branches come one after the other.

Its live tensors are 158 at most, in a feed-forward of 640 channels (counted in
tests/engine/test_on_card.py); as much again for the convolutions' copies. Measured on an H100: 0.2
GiB at most at 1024x1024, as FP8 with its layers' copies.
"""
_SPARE: Final = GIB // 2
"""Latents, workspaces of the matrix libraries (0.1 GiB measured), what the allocator rounds up."""


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
    from transformers import CLIPTokenizer  # noqa: PLC0415 - slow to import

    budget_gib = measure().bytes / GIB
    found = load_networks(files, _KNOWN, device, budget_gib, progress, exact=exact)
    pipe: Any = StableDiffusionXLPipeline(device=device, torch_dtype=torch.bfloat16)
    pipe.unet = found["stable_diffusion_xl_unet"]
    pipe.text_encoder = found["stable_diffusion_text_encoder"]
    pipe.text_encoder_2 = found["stable_diffusion_xl_text_encoder"]
    mend_pooling(pipe.text_encoder_2)
    pipe.vae = found["stable_diffusion_xl_vae"]
    pipe.tokenizer = CLIPTokenizer.from_pretrained(str(files.folder / "tokenizer"))
    pipe.tokenizer_2 = CLIPTokenizer.from_pretrained(str(files.folder / "tokenizer_2"))
    pipe.vram_management_enabled = pipe.check_vram_management_state()
    keep_precise(pipe)
    start = StartingLatents(_encode, "RGB")
    on_card = NetworksOnCard(pipe, turns, measure)
    preview = _fitted(pipe)
    return Adapted(
        pipe,
        SDXLUnit_InputImageEmbedder,
        start,
        on_card,
        preview=preview,
        clip_skip=_LAST_BUT_ONE,
    )


def turns(width: int, height: int) -> tuple[CardTurn, ...]:
    """Return what the networks work with, in bytes, for a picture of this size in pixels."""
    pixels = width * height
    return (
        CardTurn(("text_encoder", "text_encoder_2"), _SPARE),
        CardTurn(("unet",), _UNET_BYTES * pixels + _SPARE),
        CardTurn(("vae",), _VAE_BYTES * pixels + _SPARE),
    )


def _fitted(pipe: Any) -> LatentPreview:
    pipe.load_models_to_device(["vae"])
    preview = LatentPreview.fit(
        lambda picture: _encode(pipe, pipe.preprocess_image(picture)), _PIXELS
    )
    pipe.load_models_to_device([])
    return preview


def mend_pooling(encoder: Any) -> None:
    """Have this `SDXLTextEncoder2` take the pooled embedding from the end of the prompt.

    Raises `AssertionError` where it has no part that pools as it is known to.
    """
    parts = [part for part in encoder.modules() if isinstance(part, CLIPTextModelWithProjection)]
    assert len(parts) == 1, f"DiffSynth's second text encoder has {len(parts)} parts that pool"
    parts[0].forward = MethodType(_projected, parts[0])


def _projected(self: Any, input_ids: torch.Tensor, **options: Any) -> tuple[Any, Any, Any]:
    last, hidden = self.text_model(input_ids=input_ids, **options)
    # The end of text is the vocabulary's last word. Where it also pads, its first place counts.
    ends = input_ids.argmax(dim=-1)
    pooled = last[torch.arange(len(last), device=last.device), ends]
    return self.text_projection(pooled), last, hidden


def _encode(pipe: Any, pixels: torch.Tensor) -> torch.Tensor:
    # The mean: DiffSynth would draw a sample at random, without the request's seed.
    return pipe.vae.encode(pixels).mode() * pipe.vae.scaling_factor
