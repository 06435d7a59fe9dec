"""Random weights as files in the published layout, to measure with where there are no real ones.

Speed and memory don't depend on the values. The networks' files are in FP8, which halves them; the
engine packs them as it packs bfloat16. `python -m bot bench picture --random FOLDER` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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

from bot.catalogue.models import find_model

_FP8: Final = torch.float8_e4m3fn
_RANK: Final = 64
_FILES: Final = {"transformer": 9, "text encoder": 4, "VAE": 1}


@dataclass(frozen=True, slots=True)
class _Family:
    """DiffSynth's networks by the names of the catalogue's, and the folder of the tokenizer."""

    networks: Mapping[str, type[Any]]
    tokenizer: str


_SPECIAL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_FAMILIES: Final = {
    "qwen-image": _Family(
        {"transformer": QwenImageDiT, "text encoder": QwenImageTextEncoder, "VAE": QwenImageVAE},
        "tokenizer",
    ),
    "qwen-image-21": _Family(
        {
            "transformer": QwenImage21DiT,
            "text encoder": QwenImage21TextEncoder,
            "VAE": QwenImage21VAE,
        },
        "processor",
    ),
}


def write(
    folder: Path,
    device: torch.device,
    say: Callable[[str], None],
    *,
    model: str = "Qwen/Qwen-Image",
    layers: int | None = None,
) -> None:
    """Write the files of `model` to `folder`, unless they are there; of so many `layers` of blocks.

    At full size Qwen-Image's are about 30 GB, Qwen-Image-2.1's 17.
    """
    spec = find_model(model)
    family = _FAMILIES[spec.family]
    assert spec.published is not None
    if (folder / family.tokenizer / "tokenizer_config.json").is_file():
        return
    for part in spec.published.networks:
        name, network = part.part, family.networks[part.part]
        with skip_model_initialization():
            full = network(num_layers=layers) if layers and name == "transformer" else network()
            shapes = {key: tensor.shape for key, tensor in full.state_dict().items()}
        (folder / part.folder).mkdir(parents=True, exist_ok=True)
        count, whole = _FILES[name], name == "VAE"
        dtype = torch.bfloat16 if whole else _FP8
        for number in range(count):
            tensors = {
                _published(key, spec.family): _filled(key, shapes[key], device, dtype, scaled=whole)
                for key in list(shapes)[number::count]
            }
            file = f"{part.stem}-{number + 1:05}-of-{count:05}" if count > 1 else part.stem
            save_file(tensors, folder / part.folder / f"{file}.safetensors")
        say(f"wrote {part.folder}")
    _write_tokenizer(folder / family.tokenizer)


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


def _published(key: str, family: str) -> str:
    if family == "qwen-image-21":
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
    words = [*sorted(ByteLevel.alphabet()), *_SPECIAL]
    vocabulary = {word: index for index, word in enumerate(words)}
    configuration = {
        "tokenizer_class": "Qwen2Tokenizer",
        "additional_special_tokens": list(_SPECIAL[1:]),
        "pad_token": _SPECIAL[0],
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    target = folder / "tokenizer_config.json"
    target.write_text(json.dumps(configuration), encoding="utf-8")
