"""The toy networks: subclasses that replace only the widths that DiffSynth's constructors fix."""

from __future__ import annotations

import math
import os
from typing import Any, Final

import torch
from diffsynth.models.general_modules import AdaLayerNorm, RMSNorm, TimestepEmbeddings
from diffsynth.models.qwen_image_dit import (
    QwenEmbedRope,
    QwenImageDiT,
    QwenImageTransformerBlock,
)
from diffsynth.models.qwen_image_text_encoder import QwenImageTextEncoder
from diffsynth.models.qwen_image_vae import QwenImageVAE
from diffsynth.pipelines.qwen_image import QwenImagePipeline
from torch import nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from bot.engine.backend import LoadProgress
from bot.engine.options import EngineOptions
from bot.engine.tiny.tokenizer import VOCABULARY, ByteTokenizer

TEXT_WIDTH: Final = 64
WIDTH: Final = 128
HEAD: Final = 64
LAYERS: Final = 4
VAE_WIDTH: Final = 12
_LATENT_PATCH: Final = 64  # 16 channels x 2 x 2 latent pixels, as in the full model
_THREADS: Final = 4
WEIGHTS_SEED: Final = 20250804


class TinyDiT(QwenImageDiT):
    """`QwenImageDiT` with heads of 64 and few narrow blocks."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        # The three axes (frame, height, width) share a head as 16, 56, 56 share 128.
        self.pos_embed = QwenEmbedRope(theta=10000, axes_dim=[8, 28, 28], scale_rope=True)
        self.time_text_embed = TimestepEmbeddings(
            256, WIDTH, diffusers_compatible_format=True, scale=1000, align_dtype_to_timestep=False
        )
        self.txt_norm = RMSNorm(TEXT_WIDTH, eps=1e-6)
        self.img_in = nn.Linear(_LATENT_PATCH, WIDTH)
        self.txt_in = nn.Linear(TEXT_WIDTH, WIDTH)
        self.transformer_blocks = nn.ModuleList(
            QwenImageTransformerBlock(
                dim=WIDTH, num_attention_heads=WIDTH // HEAD, attention_head_dim=HEAD
            )
            for _ in range(LAYERS)
        )
        self.norm_out = AdaLayerNorm(WIDTH, single=True)
        self.proj_out = nn.Linear(WIDTH, _LATENT_PATCH)


class TinyTextEncoder(QwenImageTextEncoder):
    """`QwenImageTextEncoder`: Qwen2.5-VL's language model, two narrow layers of it."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        text: dict[str, Any] = {
            "hidden_size": TEXT_WIDTH,
            "intermediate_size": 2 * TEXT_WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
            "vocab_size": VOCABULARY,
            "bos_token_id": None,
            "eos_token_id": None,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [4, 6, 6],
            },
        }
        vision = {
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": TEXT_WIDTH,
            "fullatt_block_indexes": [0],
        }
        self.config = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
        self.model = Qwen2_5_VLModel(self.config)
        self.lm_head = nn.Linear(TEXT_WIDTH, VOCABULARY, bias=False)


class TinyVAE(QwenImageVAE):
    """`QwenImageVAE`, narrow: the same latents of 16 channels at an eighth of the size."""

    def __init__(self) -> None:
        super().__init__(base_dim=VAE_WIDTH, num_res_blocks=1)


def _initialise(module: nn.Module, seed: int) -> None:
    """Fill every weight from `seed`, so that signals keep their size from layer to layer."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        with torch.no_grad():
            if parameter.ndim > 1 and not name.endswith("gamma"):
                fan_in = parameter[0].numel()
                parameter.normal_(0.0, 1.0 / math.sqrt(fan_in), generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.02, generator=generator)
            else:
                parameter.fill_(1.0)


def load(options: EngineOptions, progress: LoadProgress) -> tuple[QwenImagePipeline, None]:
    """Return the pipeline with the toy networks, on the CPU in float32; it needs no budget."""
    del options
    # More threads don't help at this size. (At full size they do: they convert idle weights.)
    torch.set_num_threads(min(os.cpu_count() or 1, _THREADS))
    progress("building the tiny model", None)
    pipe: Any = QwenImagePipeline(device="cpu", torch_dtype=torch.float32)
    pipe.tokenizer = ByteTokenizer()
    pipe.text_encoder = TinyTextEncoder()
    pipe.dit = TinyDiT()
    pipe.vae = TinyVAE()
    for offset, part in enumerate((pipe.text_encoder, pipe.dit, pipe.vae)):
        _initialise(part, WEIGHTS_SEED + offset)
    return pipe.eval().requires_grad_(requires_grad=False), None
