"""Random weights as files in the published layout, to measure with where there are no real ones.

Speed and memory don't depend on the values. The networks' files are in FP8, which halves them; the
engine packs them as it packs bfloat16. `python -m bot bench picture --random FOLDER` writes them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from diffsynth.core.vram.initialization import skip_model_initialization
from diffsynth.models.qwen_image_21_dit import QwenImage21DiT
from diffsynth.models.qwen_image_21_text_encoder import QwenImage21TextEncoder
from diffsynth.models.qwen_image_21_vae import QwenImage21VAE
from diffsynth.models.qwen_image_dit import QwenImageDiT
from diffsynth.models.qwen_image_text_encoder import QwenImageTextEncoder
from diffsynth.models.qwen_image_vae import QwenImageVAE
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel

_FP8: Final = torch.float8_e4m3fn
_RANK: Final = 64
_STEM: Final = "diffusion_pytorch_model"
_Part = tuple[type[Any], str, str, int, torch.dtype]
"""Network, folder, file name, number of files, type of its matrices."""
_PARTS: Final[Mapping[str, tuple[_Part, ...]]] = {
    "qwen-image": (
        (QwenImageDiT, "transformer", _STEM, 9, _FP8),
        (QwenImageTextEncoder, "text_encoder", "model", 4, _FP8),
        (QwenImageVAE, "vae", _STEM, 1, torch.bfloat16),
    ),
    "qwen-image-21": (
        (QwenImage21DiT, "transformer", _STEM, 2, _FP8),
        (QwenImage21TextEncoder, "text_encoder", "model", 4, _FP8),
        (QwenImage21VAE, "vae", _STEM, 1, torch.bfloat16),
    ),
}
_ALIKE: Final = ("transformer", "text_encoder", "vae", "tokenizer", "processor")
_TOKENIZERS: Final = {"qwen-image": "tokenizer", "qwen-image-21": "processor"}


def write(
    folder: Path,
    device: torch.device,
    say: Callable[[str], None],
    *,
    layers: int | None = None,
    family: str = "qwen-image",
) -> None:
    """Write a model of a `family` of the catalogue below `folder`, unless it is there.

    About 30 GB for Qwen-Image, 17 for Qwen-Image-2.1; less with fewer `layers` than 60 or 32.
    """
    tokenizer = folder / _TOKENIZERS[family]
    if (tokenizer / "tokenizer_config.json").is_file():
        return
    for network, name, stem, count, dtype in _PARTS[family]:
        with skip_model_initialization():
            sizes: dict[str, Any] = (
                {"num_layers": layers} if layers and name == "transformer" else {}
            )
            full = network(**sizes)
            shapes = {key: tensor.shape for key, tensor in full.state_dict().items()}
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            tensors = {
                _published(key): _filled(key, shapes[key], device, dtype, scaled=name == "vae")
                for key in list(shapes)[number::count]
            }
            file = f"{stem}-{number + 1:05}-of-{count:05}" if count > 1 else stem
            save_file(tensors, folder / name / f"{file}.safetensors")
        say(f"wrote {name}")
    _write_tokenizer(tokenizer)


def write_alike(folder: Path, like: Path) -> None:
    """Have `folder` hold the files of the model in `like`, by hard links, unless it holds some.

    They are another model's all the same: speed does not depend on the values. Raises OSError.
    """
    for path in sorted(like.glob("*/*")):
        target = folder / path.relative_to(like)
        if path.is_file() and path.parent.name in _ALIKE and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)


def write_lora(path: Path, device: torch.device, *, layers: int | None = None) -> None:
    """Write a LoRA of rank 64 for each matrix of the blocks (1.2 GB), unless it is there."""
    if path.is_file():
        return
    with skip_model_initialization():
        full = QwenImageDiT(num_layers=layers) if layers else QwenImageDiT()
    found: dict[str, torch.Tensor] = {}
    for key, tensor in full.state_dict().items():
        if key.startswith("transformer_blocks.") and key.endswith(".weight") and tensor.ndim > 1:
            base, (rows, columns) = key.removesuffix(".weight"), tensor.shape
            down, up = torch.randn(_RANK, columns, device=device), torch.randn(rows, _RANK)
            found[f"{base}.lora_down.weight"] = (0.01 * down).to("cpu", torch.bfloat16)
            found[f"{base}.lora_up.weight"] = (0.001 * up).to(torch.bfloat16)
            found[f"{base}.alpha"] = torch.tensor(float(_RANK))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(found, path)


def _published(key: str) -> str:
    """Return a parameter's name in the published files: both families drop what wraps the model."""
    if key.startswith("model.model.") or key == "model.lm_head.weight":  # Qwen-Image-2.1's
        return key.removeprefix("model.")
    return key.replace("model.visual.", "visual.").replace("model.language_model.", "model.")


def _filled(
    key: str, shape: torch.Size, device: torch.device, dtype: torch.dtype, *, scaled: bool
) -> torch.Tensor:
    values = torch.randn(shape, device=device, dtype=torch.bfloat16)
    is_norm = (len(shape) == 1 and "norm" in key) or key.endswith("gamma") or "ln_q" in key
    if is_norm:
        values = 1 + 0.01 * values
    elif scaled and len(shape) > 1:
        values = values / shape[1:].numel() ** 0.5
    else:
        values = values * (0.02 if len(shape) > 1 else 0.01)
    stored = torch.bfloat16 if is_norm or len(shape) == 1 else dtype
    return values.to(stored).cpu().contiguous()


def _write_tokenizer(folder: Path) -> None:
    """A byte-level vocabulary: more tokens a prompt than the real one, the same code."""
    folder.mkdir(exist_ok=True)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    special += ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
    words = [*sorted(ByteLevel.alphabet()), *special]
    vocabulary = {word: index for index, word in enumerate(words)}
    configuration = {
        "tokenizer_class": "Qwen2Tokenizer",
        "additional_special_tokens": special[1:],
        "pad_token": special[0],
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    target = folder / "tokenizer_config.json"
    target.write_text(json.dumps(configuration), encoding="utf-8")
