"""Qwen-Image-2.1 and SDXL with DiffSynth's real networks at a small width and random weights.

`write` lays their files down as they are published; `build` is what an engine's child draws with:
all of the real code, on the card where there is one.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bot.catalogue.models import find_model
from bot.engine.card_budget import GIB, Bound, CardBudget
from bot.engine.child.quick_imports import quick_imports
from bot.engine.models.diffsynth import DiffSynthModel
from bot.engine.models.shelf import NetworkShelf
from bot.engine.models.streamed import StreamedQwenImage
from bot.engine.models.switching import ModelSwitch

QWEN = "Qwen/Qwen-Image-2.1"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
TURBO = f"{QWEN}-Turbo"
MODULES = dict.fromkeys((QWEN, TURBO), "bot.engine.models.qwen_image_21")
MODULES |= {SDXL: "bot.engine.models.sdxl"}
SPECIAL = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
# As the published one's.
PROCESSOR = {
    "patch_size": 16,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "size": {"shortest_edge": 65536, "longest_edge": 16777216},
}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% for c in m.content %}{{ c.text }}{% endfor %}<|im_end|>\n{% endfor %}"
)
TEXT = {
    "text_config": {
        "head_dim": 16,
        "hidden_size": 64,
        "intermediate_size": 128,
        "max_position_embeddings": 4096,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6,
        "rope_scaling": {
            "mrope_interleaved": True,
            "mrope_section": [4, 2, 2],
            "rope_type": "default",
        },
        "rope_theta": 5000000,
        "vocab_size": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "vision_config": {
        "deepstack_visual_indexes": [0],
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_heads": 2,
        "num_position_embeddings": 16,
        "out_hidden_size": 64,
    },
    # As the small tokenizer has them.
    "image_token_id": 261,
    "video_token_id": 262,
    "vision_start_token_id": 259,
    "vision_end_token_id": 260,
    "tie_word_embeddings": False,
}
BUDGET = CardBudget(14 * GIB, Bound.CEILING, 0)
CLIP = {"num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 600}
WIDTHS: dict[str, dict[str, Any]] = {
    "qwen_image_21_dit": {
        "num_layers": 2,
        "attention_head_dim": 32,
        "num_attention_heads": 2,
        "context_in_dim": 64,
        "axes_dims_rope": (4, 14, 14),
    },
    "qwen_image_21_text_encoder": {},
    "qwen_image_21_vae": {"base_dim": 8, "decoder_base_dim": 8, "num_res_blocks": 1},
    "stable_diffusion_xl_unet": {
        "block_out_channels": (32, 64, 64),
        "attention_head_dim": [1, 2, 2],
        "transformer_layers_per_block": [1, 1, 1],
        "layers_per_block": 1,
        "cross_attention_dim": 48,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 80,
    },
    "stable_diffusion_text_encoder": {"hidden_size": 16, "intermediate_size": 32, **CLIP},
    "stable_diffusion_xl_text_encoder": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "projection_dim": 32,
        **CLIP,
    },
    "stable_diffusion_xl_vae": {
        "block_out_channels": (32, 32, 32, 32),
        "layers_per_block": 1,
        "scaling_factor": 0.13025,
    },
}


@contextmanager
def small() -> Generator[dict[str, dict[str, Any]]]:
    """DiffSynth knows the small networks; its entries by name."""
    with quick_imports():
        import torch
        from diffsynth.configs import MODEL_CONFIGS
        from diffsynth.models.qwen_image_21_text_encoder import QwenImage21TextEncoder

    found: dict[str, dict[str, Any]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(QwenImage21TextEncoder, "QWEN_IMAGE_21_TEXT_ENCODER_CONFIG", TEXT)
        for entry in MODEL_CONFIGS:
            name = entry["model_name"]
            if name in WIDTHS and name not in found:
                patch.setitem(entry, "extra_kwargs", WIDTHS[name])
                found[name] = entry
        # DiffSynth's VRAM management calls this for whatever device it runs on; the CPU has none.
        patch.setattr(torch.cpu, "empty_cache", lambda: None, raising=False)
        _wide_convolutions(patch)
        yield found


def _wide_convolutions(patch: pytest.MonkeyPatch) -> None:
    """Convolve 16-bit numbers of the CPU in 32 bits and round what comes out.

    Without AVX-512, PyTorch does it in a plain loop: 4 s where 32 bits take 0.06 s (32 channels,
    256x256).
    """
    from torch.nn import functional

    for name in ("conv2d", "conv3d"):
        convolve = getattr(functional, name)

        def wide(x: Any, weight: Any, bias: Any = None, *how: Any, to: Any = convolve, **by: Any):
            if x.device.type != "cpu" or x.itemsize > 2:
                return to(x, weight, bias, *how, **by)
            bias = None if bias is None else bias.float()
            return to(x.float(), weight.float(), bias, *how, **by).to(x.dtype)

        patch.setattr(functional, name, wide)


def write(model: str, root: Path, *, transformer_seed: int = 3) -> None:
    """Write the model's files to its folder below `root`."""
    with small() as entries:
        _write(model, root, entries, transformer_seed)


def _write(
    model: str, root: Path, entries: dict[str, dict[str, Any]], transformer_seed: int
) -> None:
    import torch
    from diffsynth.models.model_loader import ModelPool
    from safetensors.torch import save_file

    known = importlib.import_module(MODULES[model])._KNOWN
    published = find_model(model).published
    folder = root / model
    for network in published.networks:
        entry = entries[known[network.part]]
        torch.manual_seed(transformer_seed if network.part == "transformer" else 3)
        made = ModelPool().import_model_class(entry["model_class"])(**entry["extra_kwargs"])
        state = {
            published_name(entry["model_name"], name): value
            for name, value in made.state_dict().items()
        }
        target = folder / network.folder
        target.mkdir(parents=True)
        dtype = torch.float16 if model == SDXL else torch.bfloat16
        items = [(name, value.to(dtype).contiguous()) for name, value in state.items()]
        if network.sharded:
            for i in (1, 2):
                save_file(
                    dict(items[i - 1 :: 2]), target / f"{network.stem}-0000{i}-of-00002.safetensors"
                )
        else:
            save_file(dict(items), target / f"{network.stem}.safetensors")
    if model != SDXL:
        _write_processor(folder / "processor")
    else:
        for name in ("tokenizer", "tokenizer_2"):
            _write_clip_words(folder / name)


def published_name(network: str, name: str) -> str:
    """The name in the published files of a parameter."""
    return name.removeprefix("model.") if "text_encoder" in network else name


def _write_processor(folder: Path) -> None:
    from transformers import (
        Qwen2Tokenizer,
        Qwen2VLImageProcessor,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    from tests.engine.toy_files import _write_tokenizer

    _write_tokenizer(folder)
    words = Qwen2Tokenizer.from_pretrained(str(folder))
    words.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**PROCESSOR), words, Qwen3VLVideoProcessor(), chat_template=TEMPLATE
    )
    processor.save_pretrained(str(folder))
    # As the repository has them; the fast tokenizer's own file would do without.
    if not (folder / "vocab.json").is_file():
        raise AssertionError("the tokenizer's files went away")


def _write_clip_words(folder: Path) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    folder.mkdir()
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    configuration = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration))


def device() -> str:
    """Where this machine draws."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


_KEPT = ExitStack()


def build(model: str, options: Any) -> DiffSynthModel:
    """The real backend of DiffSynth's; the networks stay small for the rest of the process."""
    _KEPT.enter_context(small())
    _KEPT.enter_context(stock_family(model))
    return DiffSynthModel(model, options)


@contextmanager
def stock_family(model: str) -> Generator[None]:
    """DiffSynth's pipeline of the model loads the small networks, where this machine draws."""
    import torch

    from bot.engine.files.find import ensure

    torch.set_num_threads(1)
    module = importlib.import_module(MODULES[model])

    def load(model: str, options: Any, progress: Any) -> tuple[Any, float]:
        files = ensure(options.model_path, progress, repository=model, source=options.model_source)
        return module.assemble(files, device(), lambda: BUDGET, progress, exact=False), 14.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load", load)
        yield


def build_streamed(model: str, options: Any) -> ModelSwitch:
    """The real streamed backend likewise, which other models can take the place of."""
    _KEPT.enter_context(small())
    _KEPT.enter_context(streamed_family())
    _KEPT.enter_context(stock_family(SDXL))
    return ModelSwitch(model, options)


def streamed(model: str, options: Any, shelf: NetworkShelf | None = None) -> StreamedQwenImage:
    """The streamed backend of Qwen-Image-2.1 within 4 GiB; call it within `small`."""
    backend = StreamedQwenImage(model, options, shelf)
    backend.load = partial(_loaded, backend)
    return backend


def _loaded(backend: StreamedQwenImage, progress: Any) -> Any:
    with streamed_family():
        return StreamedQwenImage.load(backend, progress)


@contextmanager
def streamed_family() -> Generator[None]:
    """The streamed family of Qwen-Image-2.1 loads the small networks, where this machine draws."""
    with quick_imports():
        import torch
        from diffsynth.models.qwen_image_21_vae import QwenImage21VAE

        from bot.engine.models import qwen_image_21_streamed as family
        from bot.engine.models.streamed_card import assemble
        from bot.engine.stream.loading import load_vae_21

    torch.set_num_threads(1)
    vae = partial(QwenImage21VAE, **WIDTHS["qwen_image_21_vae"])
    narrow = replace(family.FAMILY, vae=partial(load_vae_21, network=vae))
    budget = CardBudget(4 * GIB, Bound.CEILING, 0)

    def load(model: str, options: Any, progress: Any, shelf: NetworkShelf) -> Any:
        return assemble(model, options, progress, shelf, narrow, lambda: budget, device())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(family, "load", load)
        yield
