"""Guidance: the prediction's norm as Qwen-Image's authors keep it, and plain guidance beside it."""

from __future__ import annotations

import pytest
import torch

from bot.engine.stream.denoise import DenoiseInputs, denoise, noise
from bot.engine.stream.guidance import guided
from tests.stream.kit import HEIGHT, PROMPTS, WIDTH, prepared, streamed


def predictions(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Two pictures' predictions with the prompt and without it, far from one length."""
    generator = torch.Generator().manual_seed(3)
    positive = torch.randn(2, 16, 6, 10, generator=generator)
    negative = positive + 0.5 * torch.randn(2, 16, 6, 10, generator=generator)
    return (positive * torch.linspace(0.1, 3.0, 10)).to(dtype), negative.to(dtype)


def of_the_formula(positive: torch.Tensor, negative: torch.Tensor, scale: float) -> torch.Tensor:
    """Return comb * |cond| / |comb| of comb = uncond + scale * (cond - uncond), token by token.

    A token of Qwen-Image is all 16 channels of 2 x 2 latent pixels.
    """
    out = torch.empty_like(positive)
    for picture in range(len(positive)):
        for y in range(0, positive.shape[2], 2):
            for x in range(0, positive.shape[3], 2):
                cond = positive[picture, :, y : y + 2, x : x + 2]
                uncond = negative[picture, :, y : y + 2, x : x + 2]
                comb = uncond + scale * (cond - uncond)
                length = (cond.double() ** 2).sum().sqrt() / (comb.double() ** 2).sum().sqrt()
                out[picture, :, y : y + 2, x : x + 2] = comb * length
    return out


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_the_norm_of_each_token_is_that_of_the_formula(dtype, bound):
    positive, negative = predictions(dtype)
    ours = guided(positive, negative, 4.0, norm=True)
    assert ours.dtype == dtype
    exact = of_the_formula(positive, negative, 4.0)
    torch.testing.assert_close(ours, exact, rtol=bound, atol=bound)
    plain = guided(positive, negative, 4.0, norm=False)
    assert torch.equal(plain, negative + 4.0 * (positive - negative))
    assert (ours - plain).norm() > 0.1 * plain.norm()


def test_a_token_may_be_a_single_latent_pixel():
    """As Qwen-Image-2.1's are."""
    positive, negative = predictions()
    ours = guided(positive, negative, 4.0, norm=True, patch=1)
    comb = negative + 4.0 * (positive - negative)
    exact = comb * (positive.norm(dim=1, keepdim=True) / comb.norm(dim=1, keepdim=True))
    torch.testing.assert_close(ours, exact, rtol=1e-6, atol=1e-6)


def test_a_token_of_nothing_stays_nothing():
    positive, negative = predictions()
    positive[0, :, :2, :2] = negative[0, :, :2, :2] = 0.0
    ours = guided(positive, negative, 4.0, norm=True)
    assert torch.isfinite(ours).all()
    assert not ours[0, :, :2, :2].any()


def test_the_transformer_keeps_the_norm_where_it_is_asked_to():
    dit = streamed()
    latents = noise([3, 4], WIDTH, HEIGHT, torch.float32)
    both = prepared(dit, pictures=2)
    positive, negative = (
        dit.predict(prepared(dit, [text], pictures=2), 1, latents) for text in PROMPTS
    )
    ours = dit.predict(both, 1, latents, 4.0, norm=True)
    torch.testing.assert_close(ours, of_the_formula(positive, negative, 4.0), rtol=1e-4, atol=1e-5)


def drawn(*, guidance: float, norm: bool, negative: torch.Tensor | None = PROMPTS[1]):
    return denoise(
        streamed(),
        DenoiseInputs(PROMPTS[0], negative, (5, 6), WIDTH, HEIGHT, 3, guidance, cfg_norm=norm),
    )


@pytest.mark.slow
def test_without_guidance_nothing_is_changed():
    plain = drawn(guidance=1.0, norm=False)
    assert torch.equal(drawn(guidance=1.0, norm=True), plain)
    assert torch.equal(drawn(guidance=4.0, norm=True, negative=None), plain)
    assert not torch.allclose(drawn(guidance=4.0, norm=True), drawn(guidance=4.0, norm=False))
