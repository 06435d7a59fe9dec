"""Qwen-Image-2.1's streamed transformer against DiffSynth's own, small and random."""

from __future__ import annotations

import weakref
from functools import cache

import pytest
import torch
from diffsynth.models.qwen_image_21_dit import QwenImage21DiT
from diffsynth.pipelines.qwen_image_21 import model_fn_qwen_image_21

from bot.engine.models import qwen_image_21
from bot.engine.stream import prefixes
from bot.engine.stream.budget import Work
from bot.engine.stream.denoise import DenoiseInputs, denoise, noise
from bot.engine.stream.layout import Precision
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.single_stream import LATENTS, SingleStream
from bot.engine.stream.transformer import StreamedDiT
from bot.errors import EngineError, EngineErrorKind
from bot.lab.step import random_weights
from tests.stream.kit import EACH_PRECISION, budget_for, error

TEXT, LAYERS = 48, 4
WIDTH, HEIGHT = 160, 96
TIMESTEPS = torch.tensor([1000.0, 700.3, 333.3])

qwen_image_21.mend_attention()


@cache
def prompts() -> list[torch.Tensor]:
    return [torch.randn(n, TEXT, generator=torch.Generator().manual_seed(n)) for n in (11, 5)]


@torch.no_grad()
def stock(dtype: torch.dtype = torch.float32) -> QwenImage21DiT:
    dit = QwenImage21DiT(
        num_layers=LAYERS,
        attention_head_dim=32,
        num_attention_heads=4,
        context_in_dim=TEXT,
        axes_dims_rope=(8, 12, 12),
    )
    generator = torch.Generator().manual_seed(7)
    for parameter in dit.parameters():
        spread = 0.5 / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.3
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    for name, parameter in dit.named_parameters():
        if name.endswith(("norm_q.weight", "norm_k.weight")):
            parameter.add_(1)
    return dit.to(dtype).eval().requires_grad_(False)


def streamed(
    precision: Precision = Precision.PLAIN, dtype: torch.dtype = torch.float32, **settings: object
) -> StreamedDiT:
    return StreamedDiT.from_module(
        stock(dtype),
        TransformerSettings(precision=precision, dtype=dtype, **settings),
        SingleStream,
    )


def latents(*seeds: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return noise(seeds, WIDTH, HEIGHT, dtype, LATENTS)


@torch.no_grad()
def stock_branch(dit: QwenImage21DiT, prompt: torch.Tensor, step: int = 1) -> torch.Tensor:
    dtype = dit.img_in.weight.dtype
    return model_fn_qwen_image_21(
        dit,
        latents(3, dtype=dtype),
        TIMESTEPS[step : step + 1].to(dtype),
        prompt[None].to(dtype),
        None,
        torch.zeros(1, len(prompt), dtype=torch.bool),
    )


def predicted(dit: StreamedDiT, *seeds: int, guidance: float = 1.0, step: int = 1) -> torch.Tensor:
    texts = prompts() if guidance != 1.0 else prompts()[:1]
    generation = dit.prepare(texts, TIMESTEPS, width=WIDTH, height=HEIGHT, pictures=len(seeds) or 1)
    return dit.predict(
        generation, step, latents(*(seeds or (3,)), dtype=dit.settings.dtype), guidance
    )


SIZES = ((96, 64), (64, 160), (32, 32))
PLACES = (2, 3, 3)
REFERENCES = tuple(
    torch.randn(
        1, 64, height // 16, width // 16, generator=torch.Generator().manual_seed(width + height)
    )
    for width, height in SIZES
)


@torch.no_grad()
def stock_edit(prompt: torch.Tensor, count: int) -> torch.Tensor:
    """DiffSynth's prediction after the first `count` references; where they are counts as noise."""
    rows, pads, before = [], [], 0
    for place, each in zip(PLACES[:count], REFERENCES, strict=False):
        seen = each[0, 0].numel() // 4
        rows += [prompt[before:place], torch.full((seen, TEXT), 9.0)]
        pads += [False] * (place - before) + [True] * seen
        before = place
    rows.append(prompt[before:])
    pads += [False] * (len(prompt) - before)
    return model_fn_qwen_image_21(
        stock(),
        latents(3),
        TIMESTEPS[1:2],
        torch.cat(rows)[None],
        None,
        torch.tensor([pads]),
        edit_latents=list(REFERENCES[:count]),
    )


def edited(dit: StreamedDiT, count: int, guidance: float = 1.0, places=PLACES) -> torch.Tensor:
    generation = dit.prepare(
        prompts() if guidance != 1.0 else prompts()[:1],
        TIMESTEPS,
        width=WIDTH,
        height=HEIGHT,
        references=REFERENCES[:count],
        places=places[:count],
    )
    return dit.predict(generation, 1, latents(3), guidance)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_after_references_it_predicts_as_diffsynths(count):
    exact = stock_edit(prompts()[0], count)
    assert error(edited(streamed(), count), exact) < 1e-5
    other = edited(streamed(), count, places=(PLACES[0] + 1, *PLACES[1:]))
    assert min(error(other, exact), error(predicted(streamed()), exact)) > 1e-4


def test_guidance_sees_the_references_in_both_branches():
    positive, negative = (stock_edit(prompt, 3) for prompt in prompts())
    exact = negative + 3 * (positive - negative)
    assert error(edited(streamed(), 3, 3.0), exact) < 1e-5


@pytest.mark.parametrize("precision", EACH_PRECISION)
def test_after_references_streamed_is_bit_identical_to_resident(precision):
    usual = Work(WIDTH, HEIGHT, 1, (11, 5), SIZES)
    dit = streamed(precision, usual=usual)
    resident = edited(dit, 3, 3.0)
    for count in range(LAYERS, -1, -1):
        dit.network.forget()
        dit.configure(budget_for(dit, count), precision, compiled=False)
        assert torch.equal(edited(dit, 3, 3.0), resident)
        assert len(dit.resident) == count


def test_references_are_read_once_with_their_prompt(monkeypatch):
    dit, reads = streamed(), []
    real = prefixes.read_prefix
    monkeypatch.setattr(
        prefixes,
        "read_prefix",
        lambda *given, **way: (reads.append(len(given[1])), real(*given, **way))[1],
    )
    first = edited(dit, 2)
    assert reads == [2, 24, 1, 40, 8] * LAYERS
    again = tuple(one.clone() for one in REFERENCES)  # as encoded anew
    monkeypatch.setitem(globals(), "REFERENCES", again)
    assert torch.equal(edited(dit, 2), first)
    assert len(reads) == 5 * LAYERS
    monkeypatch.setitem(globals(), "REFERENCES", (again[0], again[1] + 1))
    assert not torch.equal(edited(dit, 2), first)
    assert len(reads) == 10 * LAYERS
    plain = predicted(dit)
    assert torch.equal(plain, predicted(streamed()))


def test_the_plan_counts_the_references_keys_and_values():
    dit = streamed()
    generation = dit.prepare(
        prompts(), TIMESTEPS, width=WIDTH, height=HEIGHT, references=REFERENCES, places=PLACES
    )
    kept = sum(t.nbytes for prefix in generation.prefixes for block in prefix for t in block)
    assert kept == dit.network.kept_bytes(generation.work)
    tokens = 2 * sum(width * height // 256 for width, height in SIZES) + 11 + 5
    assert kept == tokens * LAYERS * 2 * dit.geometry.dim * 4


def test_references_that_have_no_room_are_refused_with_the_number_that_has():
    dit = streamed(usual=Work(WIDTH, HEIGHT, 1, (11, 5), SIZES[:1]))
    dit.configure(budget_for(dit, 0), Precision.PLAIN, compiled=False)
    edited(dit, 1, 3.0)
    with pytest.raises(EngineError) as caught:
        edited(dit, 3, 3.0)
    assert caught.value.kind is EngineErrorKind.OUT_OF_MEMORY
    assert caught.value.values["fitting"] == "1"


def test_blocks_come_back_only_after_the_keys_and_values_that_are_used_no_more_left(monkeypatch):
    dit = streamed(usual=Work(WIDTH, HEIGHT, 1, (11,), ((512, 512),)))
    dit.configure(budget_for(dit, 1), Precision.PLAIN, compiled=False)
    large = torch.randn(1, 64, 32, 32, generator=torch.Generator().manual_seed(1))
    edit = {"width": WIDTH, "height": HEIGHT, "references": (large,), "places": (2,)}
    generation = dit.prepare(prompts()[:1], TIMESTEPS, **edit)
    held = weakref.ref(generation.prefixes[0][0].keys)
    del generation
    assert held() is not None  # for a reroll
    resident, there = len(dit.resident), []
    real = dit.weights._streamer.promote
    monkeypatch.setattr(
        dit.weights._streamer, "promote", lambda key: (there.append(held() is not None), real(key))
    )
    dit.prepare(prompts()[:1], TIMESTEPS, **edit)
    assert held() is not None
    assert there == []
    predicted(dit)
    assert len(dit.resident) > resident
    assert there
    assert not any(there)


def test_references_without_places_are_a_mistake():
    with pytest.raises(ValueError, match="places"):
        edited(streamed(), 2, places=(2,))


@pytest.mark.parametrize("step", [0, 2])
def test_it_predicts_as_diffsynths(step):
    exact = stock_branch(stock(), prompts()[0], step)
    assert exact.shape == latents(3).shape
    assert error(predicted(streamed(), step=step), exact) < 1e-5


def test_guidance_takes_each_branch_behind_its_own_prompt():
    dit = stock()
    positive, negative = (stock_branch(dit, prompt) for prompt in prompts())
    assert error(predicted(streamed(), guidance=3.0), negative + 3 * (positive - negative)) < 1e-5


def test_a_batch_is_its_single_pictures():
    dit = streamed()
    singly = torch.cat([predicted(dit, seed) for seed in (3, 4)])
    assert torch.allclose(predicted(dit, 3, 4), singly, atol=1e-6)


@pytest.mark.parametrize("precision", EACH_PRECISION)
def test_eight_bits_stay_near(precision):
    exact = stock_branch(stock(), prompts()[0])
    bound = {"plain": 1e-5, "int8": 0.02, "int8-fast": 0.03, "fp8": 0.05, "fp8-fast": 0.07}
    assert error(predicted(streamed(precision)), exact) < bound[precision]


@pytest.mark.slow
@pytest.mark.parametrize("precision", [Precision.PLAIN, Precision.FP8, Precision.INT8_FAST])
def test_streamed_is_bit_identical_to_resident(precision):
    dit = streamed(precision, usual=Work(WIDTH, HEIGHT, 1, (11, 5)))
    resident = predicted(dit, guidance=3.0)
    for count in range(LAYERS, -1, -1):
        dit.configure(budget_for(dit, count), precision, compiled=False)
        assert torch.equal(predicted(dit, guidance=3.0), resident)
        assert len(dit.resident) == count


def test_the_plan_counts_the_prompts_keys_and_values():
    dit = streamed()
    work = dit.settings.usual
    longer = type(work)(work.width, work.height, 1, (1024, 16))
    dim = dit.geometry.dim
    more = dit.network.kept_bytes(longer) - dit.network.kept_bytes(work)
    assert more == (1024 - work.text_tokens[0]) * LAYERS * 2 * dim * 4
    generation = dit.prepare(prompts()[:1], TIMESTEPS, width=WIDTH, height=HEIGHT)
    kept = sum(t.nbytes for prefix in generation.prefixes for block in prefix for t in block)
    assert kept == dit.network.kept_bytes(generation.work)


def test_a_prompt_is_read_once_for_all_its_pictures(monkeypatch):
    dit, reads = streamed(), []
    real = prefixes.read_prefix
    monkeypatch.setattr(
        prefixes,
        "read_prefix",
        lambda *given, **way: (reads.append(len(given[1])), real(*given, **way))[1],
    )
    first = predicted(dit, guidance=3.0)
    assert reads == [11, 5] * LAYERS
    # Another size, schedule and number of pictures; then without the negative prompt, and with it.
    dit.prepare(prompts(), TIMESTEPS[:2], width=96, height=96, pictures=2)
    predicted(dit)
    assert reads == [11, 5] * LAYERS
    assert torch.equal(predicted(dit, guidance=3.0), first)
    assert reads == [11, 5] * LAYERS + [5] * LAYERS
    # An equal prompt is the same one; other arithmetic reads anew.
    dit.prepare([prompts()[0].clone()], TIMESTEPS, width=WIDTH, height=HEIGHT)
    assert reads == [11, 5] * LAYERS + [5] * LAYERS
    dit.network.forget()
    predicted(dit)
    assert reads[-LAYERS:] == [11] * LAYERS


def test_the_loop_draws_as_the_pipelines():
    """Of the same noise, in as many steps, with the pipeline's own noise levels."""
    from diffsynth.diffusion import FlowMatchScheduler

    scheduler = FlowMatchScheduler("Qwen-Image")
    scheduler.set_timesteps(3, dynamic_shift_len=(HEIGHT // 16) * (WIDTH // 16))
    dit, expected = stock(), latents(3)
    for timestep in scheduler.timesteps:
        with torch.no_grad():
            prediction = model_fn_qwen_image_21(
                dit,
                expected,
                timestep.reshape(1),
                prompts()[0][None],
                None,
                torch.zeros(1, len(prompts()[0]), dtype=torch.bool),
            )
        expected = scheduler.step(prediction, timestep, expected)
    drawn = denoise(
        streamed(),
        DenoiseInputs(
            positive=prompts()[0],
            negative=None,
            seeds=[3],
            width=WIDTH,
            height=HEIGHT,
            steps=3,
            guidance=1.0,
        ),
    )
    assert error(drawn, expected) < 1e-5


def test_the_published_network_has_the_layouts_layers():
    """The names and shapes at full size, without the numbers."""
    with torch.device("meta"):
        dit = QwenImage21DiT(num_layers=1)
    block = dict(dit.transformer_blocks[0].state_dict())
    geometry = random_weights.Geometry(32, 4096, 32)
    layout = SingleStream(
        torch.nn.Module(), geometry, streamed().device, TransformerSettings()
    ).layouts["block"]
    packed = layout.pack(block, torch.device("meta"))
    taken = {f"{source}.weight" for piece in layout.pieces for source in piece.sources}
    taken |= {f"{source}.weight" for _, pair in layout.norms for source in pair}
    assert taken == set(block)
    assert packed.flat.numel() == sum(t.numel() for t in block.values() if t.ndim == 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision", [pytest.param(Precision.PLAIN, marks=pytest.mark.thorough), Precision.FP8]
)
def test_compiled_blocks_predict_the_same(precision):
    dit = streamed(precision, compile=True)
    assert dit.execution.compiled
    ours, plain = predicted(dit, guidance=3.0), predicted(streamed(precision), guidance=3.0)
    assert error(ours, plain) < 1e-4
    assert dit.execution.compiled  # it did not fall back


@pytest.mark.slow
def test_one_compiled_block_serves_every_size_and_prompt():
    """Each number of branches has its own."""
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    dit = streamed(Precision.FP8)
    exact = predicted(dit, guidance=3.0)
    kernels = dit.execution.kernels
    kernels.compiled = True
    torch._dynamo.reset()
    kernels.block = torch.compile(kernels.block, fullgraph=True, backend=backend)
    assert torch.equal(predicted(dit, guidance=3.0), exact)
    predicted(dit, guidance=3.0, step=2)
    for width, height in ((128, 64), (192, 192)):
        for lengths in ((7, 3), (30, 9)):
            texts = [torch.randn(n, TEXT) for n in lengths]
            generation = dit.prepare(texts, TIMESTEPS, width=width, height=height)
            dit.predict(generation, 1, noise((1,), width, height, torch.float32, LATENTS), 3.0)
    assert len(graphs) == 1
    predicted(dit)
    assert len(graphs) == 2
