"""The loop: against DiffSynth's pipeline, batches against single pictures."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffsynth.diffusion import FlowMatchScheduler
from diffsynth.models.qwen_image_vae import QwenImageVAE
from diffsynth.pipelines.qwen_image import QwenImagePipeline
from PIL import Image

from bot.catalogue.lightning import SERIES
from bot.catalogue.models import find_model
from bot.engine.stream.denoise import DenoiseInputs, denoise, schedule
from bot.engine.stream.layout import Precision
from bot.engine.stream.region import latent_mask
from tests.stream.kit import HEIGHT, PROMPTS, WIDTH, error, predicted, prepared, stock, streamed

TURBO = find_model("Qwen/Qwen-Image-2.1-Turbo")


class KeptLatents(QwenImageVAE):
    """Small; hands over the latents instead of decoding them."""

    def __init__(self) -> None:
        super().__init__(base_dim=8, num_res_blocks=1)

    def decode(self, hidden_states, **_options):
        self.latents = hidden_states
        return torch.zeros(1, 3, 8, 8)


def pipeline(dtype: torch.dtype) -> Any:
    pipe: Any = QwenImagePipeline(device="cpu", torch_dtype=dtype)
    pipe.dit = stock(dtype)
    torch.manual_seed(7)
    pipe.vae = KeptLatents().to(dtype).eval()
    # The embedder's unit is the only one that needs a text encoder.
    pipe.units = [u for u in pipe.units if type(u).__name__ != "QwenImageUnit_PromptEmbedder"]
    inner = pipe.cfg_guided_model_fn

    def guided(model_fn, scale, shared, positive, negative, **others):
        for side, text in ((positive, PROMPTS[0]), (negative, PROMPTS[1])):
            side["prompt_emb"] = text[None].to(dtype)
            side["prompt_emb_mask"] = torch.ones(1, len(text), dtype=torch.long)
        return inner(model_fn, scale, shared, positive, negative, **others)

    pipe.cfg_guided_model_fn = guided
    return pipe


def drawing(**changes: Any) -> DenoiseInputs:
    values: dict[str, Any] = {
        "positive": PROMPTS[0],
        "negative": PROMPTS[1],
        "seeds": (5,),
        "width": WIDTH,
        "height": HEIGHT,
        "steps": 4,
        "guidance": 4.0,
    }
    return DenoiseInputs(**(values | changes))


def by_pipeline(pipe: Any, **changes: Any) -> torch.Tensor:
    values = {"seed": 5, "width": WIDTH, "height": HEIGHT, "num_inference_steps": 4}
    pipe(progress_bar_cmd=lambda steps: steps, **(values | {"cfg_scale": 4.0} | changes))
    return pipe.vae.latents


@pytest.mark.parametrize("guidance", [4.0, 1.0])
def test_a_picture_is_the_pipelines(guidance):
    exact = by_pipeline(pipeline(torch.float32), cfg_scale=guidance)
    assert error(denoise(streamed(), drawing(guidance=guidance)), exact) < 1e-5


@pytest.mark.slow
def test_a_picture_in_bfloat16_is_as_near_to_the_truth_as_the_pipelines():
    exact = by_pipeline(pipeline(torch.float32), cfg_scale=1.0)
    theirs = by_pipeline(pipeline(torch.bfloat16), cfg_scale=1.0)
    ours = denoise(streamed(dtype=torch.bfloat16), drawing(guidance=1.0))
    # The noise is drawn in bfloat16 by both, and dominates what they share.
    assert error(ours, theirs) < 0.02
    assert error(ours, exact) < 1.3 * error(theirs, exact)


def test_redrawing_a_picture_is_the_pipelines():
    picture = Image.fromarray(
        np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    )
    pipe = pipeline(torch.float32)
    exact = by_pipeline(pipe, input_image=picture, denoising_strength=0.6)
    source = pipe.vae.encode(pipe.preprocess_image(picture))
    ours = denoise(streamed(), drawing(source=source, strength=0.6))
    assert error(ours, exact) < 1e-5
    assert error(denoise(streamed(), drawing()), exact) > 0.1


def strokes() -> Image.Image:
    """A mask whose edges are those of latent pixels, with some grey in it."""
    mask = Image.new("L", (WIDTH, HEIGHT), 0)
    mask.paste(255, (40, 24, 96, 64))
    mask.paste(128, (40, 64, 96, 80))
    return mask


def encoded() -> torch.Tensor:
    return torch.randn(1, 16, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.slow
@pytest.mark.parametrize(("strength", "guidance", "blur"), [(1.0, 4.0, 0), (0.6, 1.0, 3)])
def test_redrawing_a_part_is_the_pipelines(strength, guidance, blur):
    """Their mask is made smaller by a bicubic filter, ours by the mean: it is given that size."""
    pipe, mask = pipeline(torch.float32), strokes()
    picture = Image.effect_noise((WIDTH, HEIGHT), 80).convert("RGB")
    exact = by_pipeline(
        pipe,
        input_image=picture,
        denoising_strength=strength,
        cfg_scale=guidance,
        inpaint_mask=mask.resize((WIDTH // 8, HEIGHT // 8), Image.Resampling.BOX),
        inpaint_blur_size=blur or None,
        inpaint_blur_sigma=blur / 2 or None,
    )
    asked = drawing(
        source=pipe.vae.encode(pipe.preprocess_image(picture)),
        mask=latent_mask(mask, 8, blur),
        strength=strength,
        guidance=guidance,
    )
    assert error(denoise(streamed(), asked), exact) < 1e-5
    whole = denoise(streamed(), replace(asked, mask=None))
    assert error(whole, exact) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"strength": 0.6},
        {"steps": 1},
        {"cfg_norm": True, "shift": 3.0},
        {"steps": 8, "guidance": 1.0, "noise_levels": TURBO.levels_of(1.0)},
        {"steps": 8, "noise_levels": TURBO.levels_of(0.6), "strength": 0.6},
        {"steps": 12, "reuse": 0.5},
    ],
)
def test_outside_of_the_mask_the_latents_end_as_the_sources(changes):
    source, mask = encoded(), latent_mask(strokes(), 8)
    views: list[torch.Tensor] = []
    asked = drawing(source=source, mask=mask, seeds=(5, 6), **changes)
    final = denoise(streamed(), asked, on_latents=lambda _, latents: views.append(latents))
    stays, redrawn = (mask == 0).expand_as(source), (mask == 1).expand_as(source)
    for one in (*final.split(1), *views[0].split(1)):
        assert torch.allclose(one[stays], source[stays], atol=1e-5)
        assert error(one[redrawn], source[redrawn]) > 0.1
    assert error(final[:1][redrawn], final[1:][redrawn]) > 0.01
    # A picture of a batch is the picture alone.
    assert error(denoise(streamed(), replace(asked, seeds=(6,))), final[1:]) < 1e-5


def test_a_mask_of_everything_changes_nothing():
    whole = drawing(source=encoded(), strength=0.6)
    ones = torch.ones(1, 1, HEIGHT // 8, WIDTH // 8)
    assert torch.equal(denoise(streamed(), replace(whole, mask=ones)), denoise(streamed(), whole))
    with pytest.raises(ValueError, match="without a source"):
        drawing(mask=ones)


@pytest.mark.slow
@pytest.mark.parametrize("precision", [Precision.PLAIN, Precision.FP8])
def test_a_batch_is_its_single_pictures(precision):
    dit = streamed(precision)
    together = denoise(dit, drawing(seeds=(5, 6, 7)))
    for index, seed in enumerate((5, 6, 7)):
        alone = denoise(dit, drawing(seeds=(seed,)))
        assert error(together[index : index + 1], alone) < 1e-5


def test_a_cancel_ends_within_the_step_and_leaves_the_model_usable():
    dit = streamed(Precision.FP8)
    exact = denoise(dit, drawing())
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise(dit, drawing(), on_step=stop)
    assert seen == [1, 2]
    assert torch.equal(denoise(dit, drawing()), exact)


def test_previews_become_the_picture():
    views: list[torch.Tensor] = []
    final = denoise(
        streamed(), drawing(seeds=(5, 6)), on_latents=lambda _, latents: views.append(latents)
    )
    assert len(views) == 4
    assert torch.allclose(views[-1], final, atol=1e-6)
    assert error(views[0], final) > error(views[2], final)


def test_modulation_is_computed_once_a_schedule():
    dit = streamed(Precision.FP8)
    first, again = prepared(dit), prepared(dit)
    assert first.table is again.table
    dit.network.forget()
    assert prepared(dit).table is not first.table
    before = predicted(dit)
    other = dit.prepare(PROMPTS, torch.tensor([10.0]), width=WIDTH, height=HEIGHT)
    assert not torch.equal(other.table.values[0], first.table.values[0])
    assert torch.equal(predicted(dit), before)


def test_the_table_holds_every_blocks_modulation():
    dit, exact = streamed(), stock()
    values = prepared(dit).table.values
    timesteps = torch.tensor([1000.0, 700.3, 333.3])
    for step in range(3):
        embedding = exact.time_text_embed(timesteps[step : step + 1] / 1000, torch.float32)
        for index, block in enumerate(exact.transformer_blocks):
            image, text = block.img_mod(embedding), block.txt_mod(embedding)
            wanted = torch.cat([image, text]).view(12, -1).clone()
            wanted[[1, 4, 7, 10]] += 1
            ours = values[step, 12 * index : 12 * index + 12]
            assert torch.allclose(ours, wanted, atol=1e-4)


def test_a_shift_gives_the_noise_levels_of_the_published_lightning_settings():
    """As diffusers' FlowMatchEulerDiscreteScheduler has them with Lightning's configuration.

    base_shift = max_shift = log(3), exponential, no shift_terminal, sigmas from 1 to 1 / steps.
    """
    for steps, width in ((8, WIDTH), (4, WIDTH), (4, 2 * WIDTH)):
        mu = math.log(3)
        times = np.linspace(1.0, 1 / steps, steps)
        published = math.exp(mu) / (math.exp(mu) + (1 / times - 1))
        ours = schedule(drawing(steps=steps, width=width, shift=3.0))
        assert np.allclose(ours.sigmas, published, atol=1e-6)
        assert np.allclose(ours.timesteps, 1000 * published, atol=1e-3)
    assert schedule(drawing(shift=3.0)).sigmas.tolist() == pytest.approx([1.0, 0.9, 0.75, 0.5])
    # Qwen-Image-2.1's series, at every size.
    for width in (WIDTH, 2 * WIDTH):
        ours = schedule(drawing(shift=SERIES["Qwen/Qwen-Image-2.1"].shift, width=width))
        assert ours.sigmas.tolist() == pytest.approx([1.0, 0.75, 0.5, 0.25])
        assert ours.timesteps.tolist() == pytest.approx([1000.0, 750.0, 500.0, 250.0])
    stock: Any = FlowMatchScheduler("Qwen-Image-Lightning")
    stock.set_timesteps(8, dynamic_shift_len=4096)
    assert torch.allclose(schedule(drawing(steps=8, shift=3.0)).sigmas, stock.sigmas)
    own: Any = FlowMatchScheduler("Qwen-Image")
    own.set_timesteps(4, dynamic_shift_len=(WIDTH // 16) * (HEIGHT // 16))
    assert torch.equal(schedule(drawing()).sigmas, own.sigmas)


def test_a_distilled_model_has_its_own_levels_at_every_size():
    turbo = find_model("Qwen/Qwen-Image-2.1-Turbo")
    for width in (WIDTH, 2 * WIDTH):
        ours = schedule(drawing(width=width, steps=8, noise_levels=turbo.levels_of(1.0)))
        assert torch.allclose(ours.sigmas, torch.tensor(turbo.noise_levels))
        assert torch.allclose(ours.timesteps, 1000 * torch.tensor(turbo.noise_levels))
    lasts = {strength: len(turbo.levels_of(strength)) for strength in (0.0, 0.1, 0.5, 0.6, 1.0)}
    assert lasts == {0.0: 1, 0.1: 1, 0.5: 4, 0.6: 5, 1.0: 8}
    assert turbo.levels_of(0.25) == (0.704534, 0.414568)
    assert find_model("tiny").levels_of(0.5) == ()


def test_a_shifted_picture_follows_the_shifted_levels():
    """Each step goes from one published level to the next: a constant velocity adds up to -1."""
    dit = streamed()
    seen: list[torch.Tensor] = []

    def constant(
        _generation: Any, _step: int, latents: torch.Tensor, _guidance: float, **_options: Any
    ):
        seen.append(latents)
        return torch.ones_like(latents)

    dit.predict = constant
    final = denoise(dit, drawing(guidance=1.0, shift=3.0))
    levels = [1.0, 0.9, 0.75, 0.5, 0.0]
    for before, after, high, low in zip(seen, [*seen[1:], final], levels, levels[1:], strict=False):
        assert torch.allclose(before - after, torch.full_like(after, high - low), atol=1e-5)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_single_step_has_a_noise_level(strength):
    source = torch.zeros(1, 16, HEIGHT // 8, WIDTH // 8)
    single = drawing(steps=1, source=source, strength=strength)
    assert schedule(single).sigmas.tolist() == [strength]
    assert torch.isfinite(denoise(streamed(), drawing(steps=1))).all()
