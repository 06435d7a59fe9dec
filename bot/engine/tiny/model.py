"""The toy networks: subclasses that replace only the widths that DiffSynth's constructors fix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
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

from bot.catalogue.models import find_model
from bot.engine.options import EngineOptions, LoadProgress
from bot.engine.tiny import stored
from bot.engine.tiny.tokenizer import (
    IMAGE_ID,
    VISION_END_ID,
    VISION_START_ID,
    VOCABULARY,
    ByteTokenizer,
)
from bot.words import mark

HEAD: Final = 64
_LATENT_PATCH: Final = 64  # 16 channels x 2 x 2 latent pixels, as in the full model
_THREADS: Final = 4
_ENCODER: Final = "text_encoder."
_VISION: Final = f"{_ENCODER}model.visual."
_LANGUAGE_HEAD: Final = f"{_ENCODER}lm_head."
_DRAWING: Final = "transformer."
WEIGHTS_SEED: Final = 20250804


@dataclass(frozen=True, slots=True)
class Widths:
    """The sizes of the toy networks; heads of the transformer are 64 wide in all of them."""

    width: int
    layers: int
    text_width: int
    text_layers: int
    text_heads: int
    text_hidden: int
    vision_width: int
    vision_layers: int
    vision_hidden: int
    vae: int


UNTRAINED: Final = Widths(
    128, 4, text_width=64, text_layers=2, text_heads=2, text_hidden=128,
    vision_width=32, vision_layers=1, vision_hidden=32, vae=12,
)  # fmt: skip
"""As cheap as possible, with random weights."""
TRAINED: Final = Widths(
    256, 6, text_width=128, text_layers=6, text_heads=2, text_hidden=384,
    vision_width=128, vision_layers=4, vision_hidden=384, vae=16,
)  # fmt: skip
"""What `python -m bot.lab.tiny.train` and its `joint` make."""


def mrope_sections(pairs: int) -> list[int]:
    """Return how many of a head's `pairs` turn by time, height and width, as in the full model.

    Text has one position on all three axes.
    """
    return [pairs // 4, 3 * pairs // 8, 3 * pairs // 8]


class TinyDiT(QwenImageDiT):
    """`QwenImageDiT` with heads of 64 and few narrow blocks."""

    def __init__(self, widths: Widths = UNTRAINED) -> None:
        nn.Module.__init__(self)
        # The three axes (frame, height, width) share a head as 16, 56, 56 share 128.
        self.pos_embed = QwenEmbedRope(theta=10000, axes_dim=[8, 28, 28], scale_rope=True)
        self.time_text_embed = TimestepEmbeddings(
            256,
            widths.width,
            diffusers_compatible_format=True,
            scale=1000,
            align_dtype_to_timestep=False,
        )
        self.txt_norm = RMSNorm(widths.text_width, eps=1e-6)
        self.img_in = nn.Linear(_LATENT_PATCH, widths.width)
        self.txt_in = nn.Linear(widths.text_width, widths.width)
        self.transformer_blocks = nn.ModuleList(
            QwenImageTransformerBlock(
                dim=widths.width, num_attention_heads=widths.width // HEAD, attention_head_dim=HEAD
            )
            for _ in range(widths.layers)
        )
        self.norm_out = AdaLayerNorm(widths.width, single=True)
        self.proj_out = nn.Linear(widths.width, _LATENT_PATCH)


class TinyTextEncoder(QwenImageTextEncoder):
    """`QwenImageTextEncoder`: Qwen2.5-VL's language model, a few narrow layers of it."""

    def __init__(self, widths: Widths = UNTRAINED) -> None:
        nn.Module.__init__(self)
        pairs = widths.text_width // widths.text_heads // 2
        text: dict[str, Any] = {
            "hidden_size": widths.text_width,
            "intermediate_size": widths.text_hidden,
            "num_hidden_layers": widths.text_layers,
            "num_attention_heads": widths.text_heads,
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
            "vocab_size": VOCABULARY,
            "bos_token_id": None,
            "eos_token_id": None,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": mrope_sections(pairs),
            },
        }
        vision = {
            "depth": widths.vision_layers,
            "hidden_size": widths.vision_width,
            "intermediate_size": widths.vision_hidden,
            "num_heads": 2,
            "out_hidden_size": widths.text_width,
            # Every other block sees the whole picture, the last one among them.
            "fullatt_block_indexes": list(range(widths.vision_layers - 1, -1, -2)),
        }
        self.config = Qwen2_5_VLConfig(
            text_config=text,
            vision_config=vision,
            image_token_id=IMAGE_ID,
            vision_start_token_id=VISION_START_ID,
            vision_end_token_id=VISION_END_ID,
        )
        self.model = Qwen2_5_VLModel(self.config)
        self.lm_head = nn.Linear(widths.text_width, VOCABULARY, bias=False)


class TinyVAE(QwenImageVAE):
    """`QwenImageVAE`, narrow: the same latents of 16 channels at an eighth of the size."""

    def __init__(self, widths: Widths = UNTRAINED) -> None:
        super().__init__(base_dim=widths.vae, num_res_blocks=1)


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


def load(
    model: str, options: EngineOptions, progress: LoadProgress
) -> tuple[QwenImagePipeline, None]:
    """Return the pipeline with the toy networks and their own weights; it needs no budget."""
    del options
    return assemble(progress, style=style_of(model), edits=edits(model)), None


def style_of(model: str) -> str | None:
    """Return the style in which a toy model draws: what follows `tiny-` in its name.

    None of the one that edits, which draws in none.
    """
    return None if edits(model) else model.partition("-")[2] or None


def edits(model: str) -> bool:
    """Tell whether a toy model is the one that edits."""
    return find_model(model).references > 0


def assemble(
    progress: LoadProgress,
    folder: Path = stored.WEIGHTS,
    *,
    style: str | None = None,
    edits: bool = False,
) -> QwenImagePipeline:
    """Return the pipeline with the toy networks, on the CPU in float32.

    Their weights are those in `folder`, or random ones, the same each time, where it has none;
    `style` is added to them. With `edits` the transformer is the one that edits, or where that is
    not stored the one that draws. Raises `EngineError` (`LOAD_FAILED`) where a style's file is
    missing.
    """
    # More threads don't help at this size. (At full size they do: they convert idle weights.)
    torch.set_num_threads(min(torch.get_num_threads(), _THREADS))
    progress(mark("building the tiny model"), None)
    pipe: Any = QwenImagePipeline(device="cpu", torch_dtype=torch.float32)
    pipe.tokenizer = ByteTokenizer()
    state = stored.read(folder)
    pairs = {} if style is None else stored.read_style(style)
    widths = TRAINED if state else UNTRAINED
    pipe.text_encoder = TinyTextEncoder(widths)
    pipe.dit = TinyDiT(widths)
    pipe.vae = TinyVAE(widths)
    trained = edits and any(name.startswith(stored.EDITOR) for name in state)
    transformer = stored.EDITOR if trained else _DRAWING
    parts = {_ENCODER: pipe.text_encoder, transformer: pipe.dit, "vae.": pipe.vae}
    for offset, (prefix, part) in enumerate(parts.items()):
        if state:
            stored.expand(state, prefix, part)
            stored.add_style(pairs, prefix, part)
            if prefix == _ENCODER and not any(name.startswith(_VISION) for name in state):
                _initialise(pipe.text_encoder.model.visual, WEIGHTS_SEED)  # not trained
            if prefix == _ENCODER and not any(name.startswith(_LANGUAGE_HEAD) for name in state):
                _initialise(pipe.text_encoder.lm_head, WEIGHTS_SEED)  # likewise
        else:
            _initialise(part, WEIGHTS_SEED + offset)
    return pipe.eval().requires_grad_(requires_grad=False)
