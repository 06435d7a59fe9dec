from __future__ import annotations

import json
import threading

import pytest
import torch
from diffsynth.utils.lora.general import GeneralLoRALoader
from safetensors.torch import save_file

from bot.catalogue.lora_layers import BLOCK_LAYERS, OUTER_LAYERS
from bot.engine.stream.denoise import noise
from bot.engine.stream.layout import Precision
from bot.engine.stream.lora import parse
from bot.engine.stream.lora_files import LoraFiles
from bot.engine.stream.transformer import StreamedDiT
from bot.errors import EngineError, EngineErrorKind
from tests.stream.kit import (
    HEIGHT,
    PROMPTS,
    TIMESTEPS,
    WIDTH,
    error,
    predicted,
    stock,
    stock_prediction,
    streamed,
)

RANK = 4
BLOCK_TARGETS = {
    "attn.to_q": (128, 128),
    "attn.to_v": (128, 128),
    "attn.add_k_proj": (128, 128),
    "attn.to_out.0": (128, 128),
    "attn.to_add_out": (128, 128),
    "img_mlp.net.0.proj": (512, 128),
    "img_mlp.net.2": (128, 512),
    "txt_mlp.net.2": (128, 512),
    "img_mod.1": (768, 128),
}


def file(name, up="lora_B.weight", down="lora_A.weight", alpha=None, outer=True):
    """A LoRA file's tensors; `name` makes a key's beginning of a layer's name."""
    generator = torch.Generator().manual_seed(11)
    state = {}
    targets = {
        f"transformer_blocks.{i}.{target}": shape
        for i in range(6)
        for target, shape in BLOCK_TARGETS.items()
    }
    if outer:
        targets |= {"img_in": (128, 64), "norm_out.linear": (256, 128)}
    for target, (rows, columns) in targets.items():
        state[f"{name(target)}.{down}"] = 0.3 * torch.randn(RANK, columns, generator=generator)
        state[f"{name(target)}.{up}"] = 0.3 * torch.randn(rows, RANK, generator=generator)
        if alpha is not None:
            state[f"{name(target)}.alpha"] = torch.tensor(alpha)
    return state


def fused(strength=1.0):
    dit = stock()
    GeneralLoRALoader().fuse_lora_to_base_model(dit, file(lambda target: target), alpha=strength)
    return dit


def use(dit: StreamedDiT, state, name="a.safetensors", strength=1.0):
    dit.use([parse(name, state, strength)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "up", "down"),
    [
        (lambda t: t, "lora_B.weight", "lora_A.weight"),
        (lambda t: t, "lora_B.default.weight", "lora_A.default.weight"),
        (lambda t: f"transformer.{t}", "lora_B.weight", "lora_A.weight"),
        (lambda t: f"base_model.model.{t}", "lora_B.default.weight", "lora_A.default.weight"),
        (lambda t: f"diffusion_model.{t}", "lora_up.weight", "lora_down.weight"),
        (lambda t: "lora_unet_" + t.replace(".", "_"), "lora_up.weight", "lora_down.weight"),
        (lambda t: t, "lora.up.weight", "lora.down.weight"),
    ],
)
def test_every_way_of_naming_gives_the_fused_weights(name, up, down, capsys):
    dit = streamed()
    use(dit, file(name, up, down))
    assert error(predicted(dit), stock_prediction(fused())) < 1e-4


@pytest.mark.slow
def test_alpha_and_strength_scale(capsys):
    dit = streamed()
    use(dit, file(lambda t: t, alpha=2.0), strength=0.5)
    assert error(predicted(dit), stock_prediction(fused(0.5 * 2.0 / RANK))) < 1e-4


def test_the_known_layers_are_those_of_the_model():
    dit = streamed()
    pieces = [piece for layout in dit.layouts for piece in layout.pieces]
    assert sorted(BLOCK_LAYERS) == sorted(source for p in pieces for source in p.sources)
    linear = {
        name
        for name, module in stock().named_modules()
        if isinstance(module, torch.nn.Linear) and not name.startswith("transformer_blocks.")
    }
    assert set(OUTER_LAYERS) == linear


def test_the_header_of_a_file_is_read_with_it(tmp_path):
    state = {key: value.contiguous() for key, value in file(lambda t: t, outer=False).items()}
    header = {"transformer.r": RANK, "transformer.lora_alpha": 2 * RANK}
    save_file(state, tmp_path / "a.safetensors", {"lora_adapter_metadata": json.dumps(header)})
    save_file(state, tmp_path / "b.safetensors")
    trained, plain = LoraFiles(tmp_path).take([("a", 0.5), ("b", 0.5)])
    assert {pair.scale for pair in trained.blocks.values()} == {1.0}
    assert {pair.scale for pair in plain.blocks.values()} == {0.5}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2])
@pytest.mark.parametrize("place", ["lora_A.weight", "lora_B.weight", "alpha"])
def test_numbers_that_are_not_finite_are_found_when_a_file_is_read(tmp_path, value, dtype, place):
    state = {key: one.to(dtype) for key, one in file(lambda t: t, alpha=4.0, outer=False).items()}
    key = f"transformer_blocks.3.attn.to_v.{place}"
    state[key].view(-1)[-1] = value
    save_file(state, tmp_path / "ink.safetensors")
    with pytest.raises(EngineError) as caught:
        LoraFiles(tmp_path).take([("ink", 1.0)])
    assert caught.value.kind is EngineErrorKind.REFUSED
    assert caught.value.sentence == (
        f"The LoRA ink is damaged: {key} holds numbers that are not finite."
    )


def test_integers_are_no_lora(tmp_path):
    state = {k: v.to(torch.int8) for k, v in file(lambda t: t, outer=False).items()}
    save_file(state, tmp_path / "ink.safetensors")
    with pytest.raises(EngineError) as caught:
        LoraFiles(tmp_path).take([("ink", 1.0)])
    assert caught.value.sentence == "The LoRA ink is stored as int8, which is not supported."


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision",
    [Precision.INT8, Precision.INT8_FAST, Precision.FP8, Precision.FP8_FAST],
)
def test_on_quantised_weights_it_adds_what_it_adds_to_exact_ones(precision, capsys):
    exact, bare = stock_prediction(fused()), stock_prediction(stock())
    dit = streamed(precision)
    use(dit, file(lambda t: t))
    # These additions turn the picture over; FP8 stays as near to it as it is without them.
    assert error(predicted(dit), exact) < 0.12
    assert error(bare, exact) > 0.3


@pytest.mark.slow
def test_switching_needs_no_reloading():
    dit = streamed(Precision.FP8)
    plain = predicted(dit)
    use(dit, file(lambda t: t))
    changed = predicted(dit)
    assert error(changed, plain) > 0.1
    dit.use([])
    assert torch.equal(predicted(dit), plain)
    use(dit, file(lambda t: t))
    assert torch.equal(predicted(dit), changed)


@pytest.mark.slow
def test_two_at_once_add_up(capsys):
    dit = streamed()
    state = file(lambda t: t)
    dit.use([parse("a", state, 0.4), parse("b", state, 0.6)])
    assert error(predicted(dit), stock_prediction(fused())) < 1e-4


@pytest.mark.slow
def test_files_for_other_models_are_refused():
    dit = streamed()
    with pytest.raises(EngineError, match="is made for FLUX, not for Qwen-Image"):
        parse("flux", {"double_blocks.0.lora_A.weight": torch.ones(4, 4)})
    deep = {key.replace("blocks.5", "blocks.6"): value for key, value in file(lambda t: t).items()}
    with pytest.raises(EngineError) as caught:
        dit.use([parse("deep", deep)])
    assert caught.value.sentence == (
        "The LoRA deep is not made for Qwen-Image: it changes transformer_blocks.6.attn.add_k_proj, "
        "which is not there."
    )
    wide = {
        "transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(4, 256),
        "transformer_blocks.0.attn.to_q.lora_B.weight": torch.ones(256, 4),
    }
    with pytest.raises(EngineError) as caught:
        dit.use([parse("wide", wide)])
    assert caught.value.sentence == "The LoRA wide is made for another model."
    with pytest.raises(EngineError, match="refused"):
        outer = {"img_in.lora_A.weight": torch.ones(4, 8), "img_in.lora_B.weight": torch.ones(9, 4)}
        dit.use([parse("outer", outer)])
    assert error(predicted(dit), stock_prediction(stock())) < 1e-5


def test_additions_count_in_the_budget():
    dit = streamed(Precision.FP8)
    before = dit.plan(dit.settings.usual)
    dit.configure(before.working + before.overhead + 2**30, Precision.FP8, compiled=False)
    without = dit.plan(dit.settings.usual).overhead
    use(dit, file(lambda t: t))
    assert dit.plan(dit.settings.usual).overhead > without


def test_one_that_finds_no_memory_leaves_nothing_behind(monkeypatch, capsys):
    dit = streamed()
    before, apply, calls = predicted(dit), dit._loras._patch.apply, []

    def scarce(loras):
        apply(loras)
        calls.append(len(loras))
        if loras:
            raise torch.OutOfMemoryError("no memory for the additions")

    monkeypatch.setattr(dit._loras._patch, "apply", scarce)
    with pytest.raises(torch.OutOfMemoryError):
        use(dit, file(lambda t: t))
    # Once with every block on the device, and again after each that gave way.
    assert calls == [0, 1, 0] * (1 + dit.geometry.layers)
    assert dit.resident == frozenset()
    dit.use([])
    assert torch.equal(predicted(dit), before)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_blocks_that_differ_are_all_compiled_before_the_first_step(monkeypatch, capsys):
    torch._dynamo.reset()
    threads = []
    compiler_ran = torch._dynamo.callback.on_compile_start(
        lambda *_: threads.append(threading.current_thread().name)
    )
    try:
        dit = streamed(compile=True)
        predicted(dit)
        state = file(lambda t: t, outer=False)
        without_first = {
            k: v for k, v in state.items() if not k.startswith("transformer_blocks.0.")
        }
        dit.use([parse("not on block 0", without_first)])
        threads.clear()
        structures = []
        generation = dit.prepare(
            PROMPTS,
            TIMESTEPS,
            width=WIDTH,
            height=HEIGHT,
            on_compile=lambda: structures.append(len(threads)),
        )
        compiled = len(threads)
        dit.predict(generation, 1, noise([3], WIDTH, HEIGHT, torch.float32), 4.0)
        assert len(threads) == compiled  # nothing was left to the steps
    finally:
        torch._dynamo.callback.callback_handler.remove_start_callback(compiler_ran)
    assert set(threads) == {threading.current_thread().name}
    # Block 0 has the structure of before: only the others' had to be compiled.
    assert len(structures) == 1
    assert dit.execution.compiled
