"""What is changed of DiffSynth at runtime is as it was when that was written; else mend or drop it.

(SDXL's pooling: `test_other_models.py`.)
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bot.engine.child.quick_imports import HOLLOW, quick_imports

with quick_imports():
    import torch
    from diffsynth.diffusion import FlowMatchScheduler

ROOT = Path(__file__).parents[2]
MODULE_MAP = """
from diffsynth.configs import VRAM_MANAGEMENT_MODULE_MAPS
from diffsynth.models.model_loader import ModelPool
from diffsynth.models.qwen_image_text_encoder import QwenImageTextEncoder
from bot.engine.models.qwen_image import mend_module_map
name = "diffsynth.models.qwen_image_text_encoder.QwenImageTextEncoder"
assert name in VRAM_MANAGEMENT_MODULE_MAPS, "DiffSynth has no list of the text encoder's layers"
pool, options = ModelPool(), {"offload_dtype": 1, "offload_device": 1}
try:
    pool.fetch_module_map(name, options)
except AttributeError:
    pass
else:
    raise AssertionError("DiffSynth's list fits transformers: mend_module_map is not needed")
before = {key: dict(each) for key, each in VRAM_MANAGEMENT_MODULE_MAPS.items() if key != name}
mend_module_map()
found = {source.__name__ for source in pool.fetch_module_map(name, options)}
assert {"Qwen2_5_VLRMSNorm", "Qwen2_5_VLVisionRotaryEmbedding"} <= found, found
after = {key: each for key, each in VRAM_MANAGEMENT_MODULE_MAPS.items() if key != name}
assert after == before, "other networks' lists are changed"
"""
ATTENTION = """
import importlib, inspect
from bot.engine.child.quick_imports import quick_imports
with quick_imports():
    import torch
    from bot.engine.models import qwen_image_21
    from diffsynth.models import qwen_image_21_dit
hollow = qwen_image_21_dit.attention_forward
assert isinstance(hollow, type), "quick_imports leaves it whole: mend_attention is not needed"
used = qwen_image_21_dit._attention.__code__.co_names
assert "attention_forward" in used, "DiffSynth's transformer calls another attention function"
qwen_image_21.mend_attention()
q, k, v = torch.randn(3, 1, 5, 2, 8)
want = torch.nn.functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)))
torch.testing.assert_close(qwen_image_21_dit._attention(q, k, v), want.transpose(1, 2))
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", [MODULE_MAP, ATTENTION], ids=["module map", "attention"])
def test_what_is_changed_for_all_is_what_it_was(script) -> None:
    """In a process of its own: what was changed stays changed."""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_single_step_of_diffsynth_has_no_noise_level() -> None:
    scheduler = FlowMatchScheduler("Qwen-Image")
    assert callable(getattr(scheduler, "set_timesteps_fn", None)), "schedules are made elsewhere"
    scheduler.set_timesteps(1, dynamic_shift_len=24)
    assert not torch.isfinite(scheduler.timesteps).all(), "_set_levels is not needed"


def test_hollow_modules_are_diffsynths() -> None:
    from importlib.util import find_spec

    gone = [name for name in HOLLOW if find_spec(name) is None]
    assert not gone, "quick_imports hollows modules that DiffSynth does not have any more"
