"""Qwen-Image at full size: FP8 weights in main memory, brought to the GPU by DiffSynth.

The weights are stored as FP8 (20 GB for the transformer, 8 GB for the text encoder) and computed
with in bfloat16. Within the memory budget DiffSynth keeps layers on the GPU; the others cross the
bus at each use.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from diffsynth.configs import VRAM_MANAGEMENT_MODULE_MAPS
from diffsynth.core import ModelConfig
from diffsynth.core.vram.layers import AutoWrappedModule
from diffsynth.models.qwen_image_text_encoder import QwenImageTextEncoder
from diffsynth.pipelines.qwen_image import QwenImagePipeline
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl

from bot.engine.files.find import ensure
from bot.engine.files.model_files import ModelFiles
from bot.engine.files.stages import LOADING
from bot.engine.models.vram import (
    GIB,
    ReportingDiskMap,
    keep_precise,
    require_gpu,
    take_budget,
    throttled,
    vram_recipe,
)
from bot.engine.options import EngineOptions, LoadProgress

# What a step needs beside the weights: activations (0.4 GiB at 1344x768, 1.9 at 2048x2048) and one
# layer's bf16 copy. DiffSynth counts the CUDA context, 0.6 GiB, as used; the budget does not.
_WORKING_GIB: Final = 1.5
# From this budget on the whole FP8 transformer and its working memory fit.
_RESIDENT_GIB: Final = 22.0
_FP8: Final = torch.float8_e4m3fn


def load(
    model: str, options: EngineOptions, progress: LoadProgress
) -> tuple[QwenImagePipeline, float]:
    """Build `model`'s pipeline on the first CUDA GPU; return it and the budget in GiB.

    Raises `EngineError` (`LOAD_FAILED`) without such a GPU or without the model's files.
    """
    require_gpu()
    files = ensure(options.model_path, progress, repository=model, source=options.model_source)
    # The promise is about what torch reserves; past it torch raises instead of taking more.
    budget = take_budget(options).bytes / GIB
    return assemble(files, "cuda", budget, progress), budget


def assemble(
    files: ModelFiles, device: str, budget_gib: float, progress: LoadProgress
) -> QwenImagePipeline:
    """Load the networks with DiffSynth's VRAM management for `device`."""
    mend_module_map()
    resident = budget_gib >= _RESIDENT_GIB
    small = vram_recipe(device, torch.bfloat16, resident=resident)
    large = vram_recipe(device, _FP8, resident=resident)
    parts: list[tuple[str, tuple[Path, ...], dict[str, Any]]] = [
        ("transformer", files.transformer, large),
        ("text encoder", files.text_encoder, large),
        # A quarter of a gigabyte: not worth the grain that FP8 leaves in the picture.
        ("VAE", files.vae, small),
    ]
    configs: list[ModelConfig] = []
    for name, paths, recipe in parts:
        # DiffSynth asks for a dict and only ever iterates over it.
        weights: Any = ReportingDiskMap(
            paths, recipe["offload_dtype"], throttled(LOADING[name], progress)
        )
        names = [str(path) for path in paths]
        configs.append(ModelConfig(path=names, state_dict=weights, **recipe))
    limit: Any = None if resident or device == "cpu" else max(1.0, budget_gib - _WORKING_GIB)
    pipe = QwenImagePipeline.from_pretrained(
        torch_dtype=torch.bfloat16,
        device=device,
        model_configs=configs,
        tokenizer_config=ModelConfig(path=str(files.tokenizer)),
        vram_limit=limit,
    )
    keep_precise(pipe)
    return pipe


def mend_module_map() -> None:
    """Bring DiffSynth's list of the text encoder's layers up to the installed transformers.

    The list names layer classes that VRAM management wraps. DiffSynth 2.1.12 knows one rename of
    transformers 5, not that of the vision tower's rotary embedding, and fails at the first name
    that is gone.
    """
    layers = VRAM_MANAGEMENT_MODULE_MAPS[f"{QwenImageTextEncoder.__module__}.QwenImageTextEncoder"]
    prefix = f"{modeling_qwen2_5_vl.__name__}."
    present = vars(modeling_qwen2_5_vl)
    for path in list(layers):
        if path.startswith(prefix) and path.removeprefix(prefix) not in present:
            del layers[path]
    for name in present:
        if name.endswith(("RMSNorm", "RotaryEmbedding", "PatchEmbed")):
            layers[prefix + name] = f"{AutoWrappedModule.__module__}.AutoWrappedModule"
