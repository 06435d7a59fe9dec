"""A toy model's files in the published layout of Qwen/Qwen-Image, and DiffSynth told to know them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    import torch
    from diffsynth.configs import MODEL_CONFIGS, VERSION_CHECKER_MAPS, VRAM_MANAGEMENT_MODULE_MAPS
    from diffsynth.core.loader.file import hash_model_file
    from diffsynth.pipelines.qwen_image import QwenImagePipeline

    from bot.engine.tiny import model as tiny

# The process that tests run in shares its few cores with children that draw.
torch.set_num_threads(1)

PARTS = {
    "qwen_image_dit": ("TinyDiT", "diffsynth.models.qwen_image_dit.QwenImageDiT"),
    "qwen_image_text_encoder": (
        "TinyTextEncoder",
        "diffsynth.models.qwen_image_text_encoder.QwenImageTextEncoder",
    ),
    "qwen_image_vae": ("TinyVAE", "diffsynth.models.qwen_image_vae.QwenImageVAE"),
}


def untrained() -> QwenImagePipeline:
    """The smallest networks, with random weights."""
    return tiny.assemble(lambda *_: None, Path("no weights here"))


def _write(state: dict[str, torch.Tensor], folder: Path, stem: str, shards: int) -> list[str]:
    folder.mkdir(parents=True)
    items = [(name, value.to(torch.bfloat16).contiguous()) for name, value in state.items()]
    names = [f"{stem}.safetensors"]
    if shards > 1:
        names = [f"{stem}-{i:05}-of-{shards:05}.safetensors" for i in range(1, shards + 1)]
    for i, name in enumerate(names):
        save_file(dict(items[i :: len(names)]), folder / name)
    return [str(folder / name) for name in names]


def published_name(name: str) -> str:
    """The name in the published files of a parameter of the text encoder."""
    return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")


def write_toy_files(root: Path, patch: pytest.MonkeyPatch) -> QwenImagePipeline:
    """Write the untrained tiny model to `root`; return the pipeline whose weights were written."""
    pipe = untrained()
    text = {published_name(name): value for name, value in pipe.text_encoder.state_dict().items()}
    written = {
        "qwen_image_dit": _write(
            pipe.dit.state_dict(), root / "transformer", "diffusion_pytorch_model", 3
        ),
        "qwen_image_text_encoder": _write(text, root / "text_encoder", "model", 2),
        "qwen_image_vae": _write(pipe.vae.state_dict(), root / "vae", "diffusion_pytorch_model", 1),
    }
    _write_tokenizer(root / "tokenizer")
    known = {entry["model_name"]: entry for entry in reversed(MODEL_CONFIGS)}
    for part, (name, stock) in PARTS.items():
        path = f"bot.engine.tiny.model.{name}"
        entry = {**known[part], "model_class": path, "model_hash": hash_model_file(written[part])}
        entry.pop("extra_kwargs", None)
        patch.setattr("diffsynth.models.model_loader.MODEL_CONFIGS", [*_loader_configs(), entry])
        patch.setitem(VRAM_MANAGEMENT_MODULE_MAPS, path, VRAM_MANAGEMENT_MODULE_MAPS[stock])
        if stock in VERSION_CHECKER_MAPS:
            patch.setitem(VERSION_CHECKER_MAPS, path, VERSION_CHECKER_MAPS[stock])
    # DiffSynth's VRAM management calls this for whatever device it runs on; the CPU has none.
    patch.setattr("torch.cpu.empty_cache", lambda: None, raising=False)
    return pipe


def _loader_configs() -> list[dict]:
    from diffsynth.models import model_loader

    return model_loader.MODEL_CONFIGS


def _write_tokenizer(folder: Path) -> None:
    folder.mkdir()
    # Byte-level BPE with no merges: its alphabet maps the printable bytes to themselves.
    from tokenizers.pre_tokenizers import ByteLevel

    words = [*sorted(ByteLevel.alphabet()), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "Qwen2Tokenizer",
                "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
                "pad_token": "<|endoftext|>",
            }
        )
    )
