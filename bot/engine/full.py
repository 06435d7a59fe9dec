"""Qwen-Image at full size: FP8 weights in main memory, brought to the GPU by DiffSynth.

The weights are stored as FP8 (20 GB for the transformer, 8 GB for the text encoder) and computed
with in bfloat16. Within the memory budget DiffSynth keeps layers on the GPU; the others cross the
bus at each use.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from diffsynth.configs import VRAM_MANAGEMENT_MODULE_MAPS
from diffsynth.core import ModelConfig
from diffsynth.core.vram.disk_map import DiskMap
from diffsynth.core.vram.layers import AutoWrappedModule
from diffsynth.models.qwen_image_text_encoder import QwenImageTextEncoder
from diffsynth.pipelines.qwen_image import QwenImagePipeline
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl

from bot.engine.backend import LoadProgress
from bot.engine.options import EngineOptions
from bot.engine.stages import LOADING
from bot.engine.weights import ModelFiles, ensure
from bot.errors import EngineError, EngineErrorKind
from bot.words import mark

GIB: Final = 2**30
DEFAULT_BUDGET_GIB: Final = 14.0
# What a step needs beside the weights: activations (0.4 GiB at 1344x768, 1.9 at 2048x2048) and one
# layer's bf16 copy. DiffSynth counts the CUDA context, 0.6 GiB, as used; the budget does not.
_WORKING_GIB: Final = 1.5
# From here on the whole FP8 transformer and its working memory fit.
_RESIDENT_GIB: Final = 22.0
_FP8: Final = torch.float8_e4m3fn
_REPORT_EVERY_S: Final = 0.5


def load(
    options: EngineOptions, progress: LoadProgress, *, model: str
) -> tuple[QwenImagePipeline, float]:
    """Build `model`'s pipeline on the first CUDA GPU; return it and the budget in GiB.

    Raises `EngineError` (`LOAD_FAILED`) without such a GPU or without the model's files.
    """
    require_gpu()
    files = ensure(options.model_path, progress, repository=model, source=options.model_source)
    card = torch.cuda.get_device_properties(0).total_memory / GIB
    budget = memory_budget(options, card)
    # The promise is about what torch reserves; past it torch raises instead of taking more.
    torch.cuda.set_per_process_memory_fraction(min(1.0, budget / card))
    return assemble(files, "cuda", budget, progress), budget


def require_gpu() -> None:
    """Raise `EngineError` (`LOAD_FAILED`) where PyTorch has no CUDA GPU."""
    if not torch.cuda.is_available():
        raise EngineError(
            EngineErrorKind.LOAD_FAILED,
            "torch.cuda.is_available() is false",
            sentence=mark(
                "This model needs an NVIDIA GPU that PyTorch can use, and there is none here; "
                "IMAGE_MODEL_NAME=tiny draws toy pictures without one."
            ),
        )


def memory_budget(options: EngineOptions, card_gib: float) -> float:
    """Return how many GiB torch may reserve on a card of `card_gib`."""
    wanted = DEFAULT_BUDGET_GIB if options.vram_gb is None else options.vram_gb
    return min(wanted, options.gpu_memory_utilization * card_gib)


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


def vram_recipe(device: str, dtype: torch.dtype, *, resident: bool) -> dict[str, Any]:
    """Return the `ModelConfig` fields that store weights as `dtype` and compute in bfloat16."""
    return {
        "offload_dtype": dtype,
        "offload_device": "cpu",
        "onload_dtype": dtype,
        "onload_device": device if resident else "cpu",
        "preparing_dtype": dtype,
        "preparing_device": device,
        "computation_dtype": torch.bfloat16,
        "computation_device": device,
    }


def _small(name: str, tensor: torch.Tensor) -> bool:
    return tensor.ndim == 1 and "norm" in name


class ReportingDiskMap(DiskMap):
    """DiffSynth's lazy reader of safetensors files, which says how far it is.

    Normalisation weights stay in bfloat16: FP8 has 3 bits for them, and they are tiny.
    """

    def __init__(
        self, paths: tuple[Path, ...], dtype: torch.dtype, report: Callable[[float], None]
    ) -> None:
        super().__init__([str(path) for path in paths], "cpu")
        self._dtype = dtype
        self._report = report
        self._read = 0

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = super().__getitem__(name)
        self._read += 1
        self._report(self._read / len(self.name_map))
        return tensor.to(torch.bfloat16 if _small(name, tensor) else self._dtype)


def throttled(stage: str, progress: LoadProgress) -> Callable[[float], None]:
    """Return what tells `progress` of `stage` now and then, and at its end."""
    last = 0.0

    def report(fraction: float) -> None:
        nonlocal last
        now = time.monotonic()
        if fraction >= 1.0 or now - last >= _REPORT_EVERY_S:
            last = now
            progress(stage, fraction)

    return report


def keep_precise(pipe: torch.nn.Module) -> None:
    """Undo FP8 where it costs quality and saves nothing: norms, and rotary frequencies.

    DiffSynth casts every tensor of a wrapped module, buffers too. The text encoder's rotary
    frequencies reach down to 1e-6, which FP8 rounds to zero.
    """
    for module in pipe.modules():
        if isinstance(module, AutoWrappedModule):
            parameters = list(module.module.parameters())
            if not parameters:
                dtype = torch.float32
            elif all(p.ndim == 1 for p in parameters):
                dtype = torch.bfloat16
            else:
                continue
            module.offload_dtype = module.onload_dtype = module.preparing_dtype = dtype
            module.computation_dtype = dtype
