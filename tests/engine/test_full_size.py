"""The full-size model's loading code, run on the CPU over a toy model's files in the real layout."""

from __future__ import annotations

import hashlib

import pytest

from bot.engine.card_budget import GIB, Bound, CardMemory, card_budget
from bot.engine.options import EngineOptions
from bot.errors import EngineError, EngineErrorKind

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """(folder, pipeline whose weights are in the folder)"""
    from tests.engine.toy_files import write_toy_files

    root = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        yield root, write_toy_files(root, patch)


def test_the_networks_have_exactly_the_names_and_shapes_of_the_published_files() -> None:
    """DiffSynth knows the published files by a hash of both; transformers may rename a layer."""
    from bot.engine.child.quick_imports import quick_imports

    with quick_imports():
        from diffsynth.configs import MODEL_CONFIGS
        from diffsynth.core.loader.file import convert_keys_dict_to_single_str
        from diffsynth.core.vram.initialization import skip_model_initialization
        from diffsynth.models.qwen_image_dit import QwenImageDiT
        from diffsynth.models.qwen_image_text_encoder import QwenImageTextEncoder
        from diffsynth.models.qwen_image_vae import QwenImageVAE

    from tests.engine.toy_files import published_name

    known = {entry["model_hash"]: entry["model_class"] for entry in MODEL_CONFIGS}
    for network in (QwenImageDiT, QwenImageTextEncoder, QwenImageVAE):
        with skip_model_initialization():
            state = network().state_dict()
        shapes = {published_name(name): list(value.shape) for name, value in state.items()}
        found = hashlib.md5(convert_keys_dict_to_single_str(shapes).encode()).hexdigest()
        assert known[found].endswith(f".{network.__name__}")


@pytest.mark.parametrize(("budget", "resident"), [(14.0, False), (30.0, True)])
@pytest.mark.slow
def test_files_become_a_pipeline_with_fp8_storage(toy, budget, resident) -> None:
    import torch
    from diffsynth.core.vram.layers import AutoWrappedLinear, AutoWrappedModule

    from bot.engine.files.find import ensure
    from bot.engine.models.qwen_image import assemble

    root, original = toy
    stages: list[tuple[str, float | None]] = []
    pipe = assemble(ensure(root, None), "cpu", budget, lambda *stage: stages.append(stage))
    for part in ("transformer", "text encoder", "VAE"):
        assert (f"loading the {part}", 1.0) in stages

    assert pipe.vram_management_enabled
    linears = [m for m in pipe.dit.modules() if isinstance(m, AutoWrappedLinear)]
    assert len(linears) == sum(isinstance(m, torch.nn.Linear) for m in original.dit.modules())
    assert {m.weight.dtype for m in linears} == {torch.float8_e4m3fn}
    assert {m.onload_device for m in linears} == {"cpu"}
    assert {m.computation_dtype for m in linears} == {torch.bfloat16}
    assert {p.dtype for p in pipe.vae.parameters()} == {torch.bfloat16}

    image = pipe(
        prompt="a cat", width=256, height=256, seed=1, num_inference_steps=2, progress_bar_cmd=iter
    )
    assert image.size == (256, 256)
    # After use, too: DiffSynth casts when it moves a layer.
    norms = [p for name, p in pipe.named_parameters() if p.ndim == 1 and "norm" in name]
    rotary = [
        m.module.inv_freq
        for m in pipe.text_encoder.modules()
        if isinstance(m, AutoWrappedModule) and hasattr(m.module, "inv_freq")
    ]
    assert {p.dtype for p in norms if p.dtype != torch.float8_e4m3fn} == {torch.bfloat16}
    assert len(rotary) == 2
    assert {buffer.dtype for buffer in rotary} == {torch.float32}

    ids = torch.arange(60)[None]
    pipe.load_models_to_device(["text_encoder"])
    with torch.no_grad():
        want, got = (
            p.text_encoder(input_ids=ids, attention_mask=torch.ones_like(ids))[-1].float()
            for p in (original, pipe)
        )
    # Plain FP8 has 3 bits for the fraction; a wrong or missing weight gives an error near 1.
    assert (got - want).norm() / want.norm() < 0.2


def test_the_recipe_differs_only_in_where_idle_weights_wait() -> None:
    import torch

    from bot.engine.models.vram import vram_recipe

    recipe = vram_recipe("cuda", torch.float8_e4m3fn, resident=False)
    assert recipe == {
        "offload_dtype": torch.float8_e4m3fn,
        "offload_device": "cpu",
        "onload_dtype": torch.float8_e4m3fn,
        "onload_device": "cpu",
        "preparing_dtype": torch.float8_e4m3fn,
        "preparing_device": "cuda",
        "computation_dtype": torch.bfloat16,
        "computation_device": "cuda",
    }
    assert vram_recipe("cuda", torch.float8_e4m3fn, resident=True) == {
        **recipe,
        "onload_device": "cuda",
    }


@pytest.mark.parametrize(
    ("ceiling", "share", "total", "free", "own", "budget", "bound"),
    [
        (14.0, 0.7, 80.0, 79.0, 0.0, 14.0, Bound.CEILING),
        (14.0, 0.7, 12.0, 11.5, 0.0, 8.4, Bound.SHARE),
        (None, None, 24.0, 23.5, 0.0, 21.6, Bound.SHARE),
        (None, None, 16.0, 14.5, 0.0, 13.9, Bound.FREE),
        (None, None, 16.0, 2.5, 12.0, 13.9, Bound.FREE),  # our own is there for us
        (40.0, None, 24.0, 6.0, 0.0, 5.4, Bound.FREE),
        (None, 0.7, 8.0, 0.2, 0.0, 0.0, Bound.FREE),
    ],
)
def test_the_budget_is_the_least_of_all_limits(ceiling, share, total, free, own, budget, bound):
    memory = CardMemory(*(int(size * GIB) for size in (total, free, own)))
    found = card_budget(memory, ceiling, share)
    assert found.bytes / GIB == pytest.approx(budget)
    assert found.bound is bound
    others = total - free - own if bound is Bound.FREE else 0
    assert found.held_by_others / GIB == pytest.approx(others)


def test_without_a_gpu_the_sentence_says_so(tmp_path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    from bot.engine.models.build import build

    backend = build("Qwen/Qwen-Image", EngineOptions(tmp_path))
    with pytest.raises(EngineError) as caught:
        backend.load(lambda *_: None)
    assert caught.value.kind is EngineErrorKind.LOAD_FAILED
    assert "NVIDIA GPU" in caught.value.sentence
    assert "IMAGE_MODEL_NAME=tiny" in caught.value.sentence
