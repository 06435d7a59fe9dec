"""Reference pictures: ours against DiffSynth's, streamed against resident, and all that goes along."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffsynth.pipelines.qwen_image import model_fn_qwen_image
from PIL import Image

from bot.engine.stream.budget import Work
from bot.engine.stream.denoise import DenoiseInputs, denoise, noise, schedule
from bot.engine.stream.layout import Precision
from bot.engine.stream.lora import parse
from bot.engine.stream.transformer import StreamedDiT
from bot.engine.stream.transformer_kind import DOUBLE, ZERO_COND
from bot.engine.stream.warming import warm_up
from bot.errors import EngineError, EngineErrorKind
from tests.stream import kit, test_lora
from tests.stream.kit import HEIGHT, PROMPTS, TIMESTEPS, WIDTH, budget_for, error, predicted
from tests.stream.test_denoising import by_pipeline, pipeline

SIZES = ((96, 64), (64, 160), (WIDTH, HEIGHT))
REFERENCES = tuple(
    torch.randn(1, 16, height // 8, width // 8, generator=torch.Generator().manual_seed(width))
    for width, height in SIZES
)
KINDS = {True: ZERO_COND, False: DOUBLE}


def streamed(
    precision: Precision = Precision.PLAIN,
    dtype: torch.dtype = torch.float32,
    *,
    zero_cond_t: bool = True,
    **settings: Any,
) -> StreamedDiT:
    kind = KINDS[zero_cond_t].network
    return kit.streamed(precision, dtype, kind=kind, **settings)


def drawing(**changes: Any) -> DenoiseInputs:
    values: dict[str, Any] = {
        "positive": PROMPTS[0],
        "negative": PROMPTS[1],
        "seeds": (5,),
        "width": WIDTH,
        "height": HEIGHT,
        "steps": 3,
        "references": REFERENCES[:2],
    }
    return DenoiseInputs(**(values | changes))


@torch.no_grad()
def stock_step(
    dit: Any, inputs: DenoiseInputs, latents: torch.Tensor, timestep: torch.Tensor, zero: bool
) -> torch.Tensor:
    """DiffSynth's prediction of one picture."""

    def branch(text: torch.Tensor) -> torch.Tensor:
        return model_fn_qwen_image(
            dit=dit,
            latents=latents,
            timestep=timestep[None],
            prompt_emb=text[None],
            prompt_emb_mask=torch.ones(1, len(text), dtype=torch.long),
            height=inputs.height,
            width=inputs.width,
            edit_latents=list(inputs.references),
            zero_cond_t=zero,
        )

    positive = branch(inputs.positive)
    if inputs.guidance == 1.0 or inputs.negative is None:
        return positive
    negative = branch(inputs.negative)
    return negative + inputs.guidance * (positive - negative)


def by_diffsynth(inputs: DenoiseInputs, zero: bool) -> torch.Tensor:
    """What `QwenImagePipeline` does between its VAE's two turns, picture by picture."""
    dit, found = kit.stock(), []
    for seed in inputs.seeds:
        scheduler = schedule(inputs)
        latents = noise((seed,), inputs.width, inputs.height, torch.float32)
        if inputs.source is not None:
            latents = scheduler.add_noise(inputs.source, latents, scheduler.timesteps[0])
        for timestep in scheduler.timesteps:
            predicted = stock_step(dit, inputs, latents, timestep, zero)
            latents = scheduler.step(predicted, timestep, latents)
        found.append(latents)
    return torch.cat(found)


@pytest.mark.slow
@pytest.mark.parametrize("zero", [True, False])
def test_a_picture_is_the_pipelines(zero):
    pipe = pipeline(torch.float32)
    pictures = [
        Image.effect_noise(size, 80).convert("RGB").rotate(90 * n)
        for n, size in enumerate(((96, 64), (64, 64)))
    ]
    encoded: list[torch.Tensor] = []
    encode = pipe.vae.encode
    pipe.vae.encode = lambda *values, **options: (
        encoded.append(encode(*values, **options)) or encoded[-1]
    )
    exact = by_pipeline(pipe, edit_image=pictures, edit_image_auto_resize=False, zero_cond_t=zero)
    assert [tuple(latents.shape) for latents in encoded] == [(1, 16, 8, 12), (1, 16, 8, 8)]
    inputs = drawing(references=tuple(encoded), steps=4)
    assert error(denoise(streamed(zero_cond_t=zero), inputs), exact) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_prediction_is_diffsynths(count, zero):
    inputs = drawing(references=REFERENCES[:count])
    dit, latents = streamed(zero_cond_t=zero), noise([3], WIDTH, HEIGHT, torch.float32)
    generation = dit.prepare(
        PROMPTS, TIMESTEPS, width=WIDTH, height=HEIGHT, references=inputs.references
    )
    exact = stock_step(kit.stock(), inputs, latents, TIMESTEPS[1], zero)
    assert error(dit.predict(generation, 1, latents, 4.0), exact) < 1e-5
    # Else the other kind would pass for this one.
    other = stock_step(kit.stock(), inputs, latents, TIMESTEPS[1], not zero)
    assert error(other, exact) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("guidance", [4.0, 1.0])
@pytest.mark.parametrize("references", [REFERENCES[:1], REFERENCES[1:]])
def test_a_batch_is_the_pipelines_pictures(references, guidance, zero):
    inputs = drawing(guidance=guidance, seeds=(5, 6), references=references)
    exact = by_diffsynth(inputs, zero)
    assert error(denoise(streamed(zero_cond_t=zero), inputs), exact) < 1e-5


def test_it_starts_from_a_picture_too():
    source = torch.randn(1, 16, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(8))
    inputs = drawing(source=source, strength=0.6)
    assert error(denoise(streamed(), inputs), by_diffsynth(inputs, zero=True)) < 1e-5


def test_the_order_of_the_references_tells_them_apart():
    dit = streamed()
    there, back = (denoise(dit, drawing(references=REFERENCES[:2][::way])) for way in (1, -1))
    assert error(back, there) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "bound"),
    [
        (Precision.INT8, 0.015),
        (Precision.INT8_FAST, 0.03),
        (Precision.FP8, 0.05),
        (Precision.FP8_FAST, 0.09),
    ],
)
def test_eight_bits_stay_near(precision, bound):
    inputs, latents = drawing(), noise([3], WIDTH, HEIGHT, torch.float32)
    exact = stock_step(kit.stock(), inputs, latents, TIMESTEPS[1], True)
    assert 1e-4 < error(one_step(streamed(precision), inputs), exact) < bound


def one_step(dit: StreamedDiT, inputs: DenoiseInputs) -> torch.Tensor:
    latents = noise([3], WIDTH, HEIGHT, dit.settings.dtype)
    generation = dit.prepare(
        PROMPTS, TIMESTEPS, width=WIDTH, height=HEIGHT, references=inputs.references
    )
    return dit.predict(generation, 1, latents, inputs.guidance)


@pytest.mark.slow
@pytest.mark.parametrize("precision", kit.EACH_PRECISION)
def test_streamed_is_bit_identical_to_resident(precision):
    work = Work(WIDTH, HEIGHT, 1, (11, 5), SIZES[:2])
    dit = streamed(precision, torch.bfloat16, usual=work)
    exact = one_step(dit, drawing())
    for count in (6, 4, 2, 0):
        dit.configure(budget_for(dit, count), precision, compiled=False)
        assert torch.equal(one_step(dit, drawing()), exact)
        assert len(dit.resident) == count


def test_pictures_without_references_are_what_they_were():
    plain, edits = kit.streamed(Precision.FP8), streamed(Precision.FP8)
    exact = predicted(plain)
    assert torch.equal(predicted(edits), exact)
    for zero, dit in ((False, plain), (True, edits)):
        assert not torch.equal(one_step(dit, drawing()), exact), zero
        assert torch.equal(predicted(dit), exact)


def test_branches_apart_equal_branches_together(monkeypatch):
    together = denoise(streamed(), drawing())
    monkeypatch.setattr(Work, "joint", property(lambda _self: False))
    assert error(denoise(streamed(), drawing()), together) < 1e-5


def test_a_lora_changes_the_references_tokens_as_the_targets(capsys):
    dit, fused = streamed(), test_lora.fused()
    dit.use([parse("a.safetensors", test_lora.file(lambda target: target))])
    latents = noise([3], WIDTH, HEIGHT, torch.float32)
    exact = stock_step(fused, drawing(), latents, TIMESTEPS[1], True)
    assert error(one_step(dit, drawing()), exact) < 1e-4
    dit.use([])
    exact = stock_step(kit.stock(), drawing(), latents, TIMESTEPS[1], True)
    assert error(one_step(dit, drawing()), exact) < 1e-5


def test_a_cancel_ends_within_the_step_and_previews_are_the_targets():
    dit = streamed(Precision.FP8)
    exact = denoise(dit, drawing())
    shown: list[tuple[int, ...]] = []

    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise(
            dit, drawing(), on_step=stop, on_latents=lambda _, seen: shown.append(tuple(seen.shape))
        )
    assert shown == [(1, 16, HEIGHT // 8, WIDTH // 8)] * 2
    assert torch.equal(denoise(dit, drawing()), exact)


@pytest.mark.slow
def test_reuse_and_a_guidance_of_the_predictions_length(monkeypatch):
    dit = streamed()
    steps: list[int] = []
    predict = dit.predict

    def counted(generation: Any, step: int, *arguments: Any, **options: Any) -> torch.Tensor:
        steps.append(step)
        return predict(generation, step, *arguments, **options)

    monkeypatch.setattr(dit, "predict", counted)
    inputs = {"steps": 16, "seeds": (5, 6)}
    whole = denoise(dit, drawing(**inputs))
    assert steps == list(range(16))
    spared = denoise(dit, drawing(reuse=1.0, **inputs))
    assert len(steps) < 2 * 16
    assert 0 < error(spared, whole) < 0.5
    held = denoise(dit, drawing(cfg_norm=True, steps=1))
    loose, latents = denoise(dit, drawing(steps=1)), noise([5], WIDTH, HEIGHT, torch.float32)
    assert (held - latents).norm() < (loose - latents).norm()


def test_they_cost_room_and_blocks():
    usual = Work(WIDTH, HEIGHT, 1, (11, 5))
    dit = streamed(Precision.FP8, usual=usual)
    dit.configure(budget_for(dit, 5), Precision.FP8, compiled=False)
    predicted(dit)
    assert len(dit.resident) == 5
    one_step(dit, drawing(references=REFERENCES))
    assert len(dit.resident) < 5
    predicted(dit)
    assert len(dit.resident) == 5


def test_what_has_no_room_is_refused_before_anything_is_drawn():
    dit = streamed(Precision.FP8, usual=Work(WIDTH, HEIGHT, 1, (11, 5), SIZES[:1]))
    dit.configure(budget_for(dit, 0), Precision.FP8, compiled=False)
    stages: list[Any] = []
    with pytest.raises(EngineError) as caught:
        denoise(dit, drawing(references=REFERENCES), on_stage=stages.append)
    assert caught.value.kind is EngineErrorKind.OUT_OF_MEMORY
    assert "with at most 1 of these pictures it fits" in str(caught.value.sentence)
    assert "with reference pictures of 96x64, 64x160, 128x96" in str(caught.value.sentence)
    assert stages == []
    denoise(dit, drawing(references=REFERENCES[:1]))


@pytest.mark.parametrize("shape", [(2, 16, 8, 8), (1, 4, 8, 8), (1, 16, 7, 8), (16, 8, 8)])
def test_what_is_no_latents_of_one_picture_is_refused(shape):
    with pytest.raises(ValueError, match="no shape of one picture's latents"):
        denoise(streamed(), drawing(references=(torch.zeros(shape),)))


def test_timestep_0_is_one_more_step_of_the_table():
    dit = streamed()
    exact = kit.stock()
    generation = dit.prepare(
        PROMPTS, TIMESTEPS, width=WIDTH, height=HEIGHT, references=REFERENCES[:1]
    )
    assert len(generation.table.values) == len(TIMESTEPS) + 1
    embedding = exact.time_text_embed(torch.zeros(1), torch.float32)
    for index, block in enumerate(exact.transformer_blocks):
        wanted = block.img_mod(embedding).view(6, -1).clone()
        wanted[[1, 4]] += 1
        assert torch.allclose(generation.still.of(index).rows, wanted, atol=1e-4)
    again = dit.prepare(PROMPTS, TIMESTEPS, width=WIDTH, height=HEIGHT, references=REFERENCES[1:])
    assert again.table is generation.table
    without = dit.prepare(PROMPTS, TIMESTEPS, width=WIDTH, height=HEIGHT)
    assert len(without.table.values) == len(TIMESTEPS)


@pytest.mark.thorough
@pytest.mark.slow
def test_references_are_a_longer_image_for_compiled_code():
    torch._dynamo.reset()
    dit = streamed(zero_cond_t=False, compile=True)
    predicted(dit)
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    exact = one_step(streamed(zero_cond_t=False), drawing())
    assert error(one_step(dit, drawing()), exact) < 1e-4
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled
    assert dit.execution.compiled


@pytest.mark.slow
def test_with_timestep_0_they_are_compiled_once_for_every_size():
    torch._dynamo.reset()
    dit = streamed(compile=True)
    # One as large as the target first: that two numbers are equal may not be taken for a rule.
    one_step(dit, drawing(references=REFERENCES[2:]))
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert error(one_step(dit, drawing()), one_step(streamed(), drawing())) < 1e-4
    one_step(dit, drawing(references=REFERENCES))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled
    assert dit.execution.compiled


def test_a_structure_is_compiled_before_the_first_step(monkeypatch):
    calls: list[int] = []

    def compiler(function: Any, **_options: Any) -> Any:
        def call(*arguments: Any) -> Any:
            calls.append(len(arguments))
            return function(*arguments)

        return call

    monkeypatch.setattr(torch, "compile", compiler)
    dit, told = streamed(compile=True), []

    def prepare(references: tuple[torch.Tensor, ...]) -> int:
        calls.clear()
        dit.prepare(
            PROMPTS,
            TIMESTEPS,
            width=WIDTH,
            height=HEIGHT,
            references=references,
            on_compile=lambda: told.append(1),
        )
        return len(calls)

    assert [prepare(()), prepare(REFERENCES), prepare(REFERENCES[:1]), prepare(())] == [1, 1, 0, 0]
    assert len(told) == 2


def test_a_model_whose_usual_picture_has_references_is_warmed_up_for_them():
    dit = streamed(usual=Work(WIDTH, HEIGHT, 1, (11, 5), SIZES[:2]))
    seen: list[tuple[Work, bool]] = []
    run = dit.network.run

    def noted(block: Any, kernel: Any, unit: Any, generation: Any, *others: Any) -> None:
        seen.append((generation.work, generation.structure))
        run(block, kernel, unit, generation, *others)

    dit.network.run = noted
    warm_up(dit)
    assert set(seen) == {(dit.settings.usual, True)}
