"""A small random encoder that sees pictures, and DiffSynth's unit for edit prompts with it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffsynth.models.qwen_image_text_encoder import QwenImageTextEncoder
from diffsynth.pipelines.qwen_image import QwenImageUnit_PromptEmbedder
from PIL import Image
from torch import nn

from tests.engine.small_models import SPECIAL
from tests.engine.toy_files import _write_tokenizer

TEXT = {
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "vocab_size": 300,
    "bos_token_id": None,
    "eos_token_id": None,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [8, 12, 12],
    },
}
VISION = {
    "depth": 4,
    "hidden_size": 64,
    "intermediate_size": 92,
    "num_heads": 2,
    "out_hidden_size": TEXT["hidden_size"],
    "fullatt_block_indexes": [1, 3],
    "window_size": 112,
}
# Smaller than the child makes them, also in steps of 32 pixels, of which the processor makes 28.
SHAPES = ((160, 160), (224, 96), (96, 256))


class SmallEncoder(QwenImageTextEncoder):
    def __init__(self, mark: int) -> None:
        from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

        nn.Module.__init__(self)
        self.config = Qwen2_5_VLConfig(
            text_config=TEXT, vision_config=VISION, image_token_id=mark, video_token_id=mark + 1
        )
        self.model = Qwen2_5_VLModel(self.config)
        self.lm_head = nn.Linear(TEXT["hidden_size"], TEXT["vocab_size"], bias=False)

    def forward(self, input_ids: Any, **options: Any) -> Any:
        """As DiffSynth's, told which tokens are pictures.

        transformers 5 needs to be told, or gives pictures the positions of text; DiffSynth was
        written for versions that saw it for themselves.
        """
        if options.get("image_grid_thw") is not None:
            options["mm_token_type_ids"] = (input_ids == self.config.image_token_id).int()
        return super().forward(input_ids=input_ids, **options)


def small_pipe(folder: Path) -> Any:
    """What DiffSynth's unit takes of a pipeline."""
    from transformers import (
        Qwen2Tokenizer,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    _write_tokenizer(folder)
    words = Qwen2Tokenizer.from_pretrained(str(folder))
    words.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    torch.manual_seed(5)
    encoder = SmallEncoder(words.convert_tokens_to_ids("<|image_pad|>")).eval()
    with torch.no_grad():
        for name, each in encoder.named_parameters():
            # Wide enough that what a token says, and where it stands, shows in the answer.
            if each.ndim > 1:
                each.normal_(0.0, 1.0 if "embed_tokens" in name else each[0].numel() ** -0.5)
            elif name.endswith("bias"):
                each.normal_(0.0, 0.02)
    return SimpleNamespace(
        tokenizer=words,
        processor=Qwen2VLProcessor(Qwen2VLImageProcessor(), words, Qwen2VLVideoProcessor()),
        text_encoder=encoder.requires_grad_(requires_grad=False),
        device=torch.device("cpu"),
        torch_dtype=torch.float32,
        load_models_to_device=lambda _: None,
    )


def painted(seed: int) -> Image.Image:
    """A picture of the shape `seed` of `SHAPES`: a gradient with noise."""
    width, height = SHAPES[seed % len(SHAPES)]
    generator = np.random.default_rng(seed)
    slope = np.linspace(0, 150, width)[None, :, None] + np.linspace(0, 50, height)[:, None, None]
    values = slope + generator.uniform(0, 55, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


@torch.no_grad()
def stock_edit(pipe: Any, prompts: list[str], pictures: list[Image.Image]) -> list[torch.Tensor]:
    """What DiffSynth's own unit says, a prompt at a time as its pipeline asks."""
    unit = QwenImageUnit_PromptEmbedder()
    # They have their size already.
    unit.resize_image = lambda image: image
    return [unit.process(pipe, prompt, pictures)["prompt_emb"][0] for prompt in prompts]
