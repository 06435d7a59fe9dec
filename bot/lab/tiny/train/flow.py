"""Flow matching: the networks' forward pass for batches of unequal prompts, loss and sampling.

The same values as DiffSynth's modules give for one prompt at a time (a test compares them), in
real arithmetic and with a mask for padding, so that a batch compiles into few kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from diffsynth.diffusion import FlowMatchScheduler
from torch import Tensor
from torch.nn import functional

from bot.engine.tiny.model import HEAD, mrope_sections
from bot.engine.tiny.tokenizer import PAD_ID, PREFIX, PREFIX_IDS, SUFFIX, ByteTokenizer
from bot.lab.tiny.train.networks import Painter

TEXT_TOKENS: Final = 80
"""Text tokens in training, suffix included; longer captions are left out."""
DROPPED: Final = 0.1
"""Share of captions emptied, for classifier-free guidance (arXiv 2207.12598)."""
_QUICK_GELU: Final = 1.702
_EPSILON: Final = 1e-6

Layer = Callable[..., Any]


def caption_ids(captions: list[str]) -> tuple[Tensor, Tensor]:
    """Return ids [captions, 34 + TEXT_TOKENS] and which text tokens count [captions, TEXT_TOKENS].

    A caption that is too long is cut at its end; `fits` tells beforehand.
    """
    tokenizer = ByteTokenizer()
    width = PREFIX_IDS + TEXT_TOKENS
    ids = torch.full((len(captions), width), PAD_ID)
    counts = torch.zeros(len(captions), dtype=torch.long)
    for row, caption in enumerate(captions):
        one = tokenizer.encode(PREFIX + caption + SUFFIX)[:width]
        ids[row, : len(one)] = torch.tensor(one)
        counts[row] = len(one) - PREFIX_IDS
    return ids, torch.arange(TEXT_TOKENS) < counts[:, None]


def fits(caption: str) -> bool:
    """Tell whether a caption is short enough to be trained on."""
    return len(ByteTokenizer().encode(PREFIX + caption + SUFFIX)) <= PREFIX_IDS + TEXT_TOKENS


def noise_levels(count: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """Draw sigmas: half log-normal (arXiv 2403.03206), half uniform, shifted as at inference."""
    normal = torch.sigmoid(torch.randn(count, device=device, generator=generator))
    uniform = torch.rand(count, device=device, generator=generator)
    chosen = torch.where(torch.arange(count, device=device) % 2 == 0, normal, uniform)
    shift = math.exp(0.5)  # the scheduler's, at 256 tokens
    return shift * chosen / (1 + (shift - 1) * chosen)


def flow_loss(
    painter: Painter,
    latents: Tensor,
    ids: Tensor,
    counts: Tensor,
    layers: tuple[Layer, Layer],
    generator: torch.Generator,
) -> Tensor:
    """Return the mean squared error of the predicted velocity, noise minus picture."""
    device = latents.device
    sigma = noise_levels(len(latents), device, generator)
    noise = torch.randn(latents.shape, device=device, generator=generator)
    level = sigma[:, None, None, None]
    mixed = (1 - level) * latents + level * noise
    predicted = predict(painter, mixed, sigma, ids, counts, layers)
    return functional.mse_loss(predicted.float(), noise - latents)


def predict(
    painter: Painter,
    latents: Tensor,
    sigma: Tensor,
    ids: Tensor,
    counts: Tensor,
    layers: tuple[Layer, Layer] | None = None,
) -> Tensor:
    """Return the velocity [pictures, 16, height, width] at noise levels `sigma` [pictures].

    `layers` are `text_layer` and `joint_block`, compiled or (None) as they are.
    """
    text_run, block_run = (text_layer, joint_block) if layers is None else layers
    model = painter.text_encoder.model.language_model
    text = text_states(model, model.embed_tokens(ids), text_run)[:, PREFIX_IDS:]
    return velocity(painter.transformer, latents, (), sigma, text, counts, block_run)


def velocity(
    dit: Any,
    latents: Tensor,
    references: Sequence[Tensor],
    sigma: Tensor,
    text: Tensor,
    counts: Tensor,
    run: Layer,
) -> Tensor:
    """Return the velocity [pictures, 16, height, width] that a transformer predicts.

    Behind the tokens of `latents` stand those of `references`, each like `latents` but of any size,
    at noise level 0: as the pipeline does with `zero_cond_t`. `text` [pictures, tokens, width] are
    the encoder's states, `counts` [pictures, tokens] which of them count; `run` is `joint_block`.
    """
    pictures = [latents, *references]
    image = dit.img_in(torch.cat([_patches(one) for one in pictures], 1))
    text = dit.txt_in(dit.txt_norm(text))
    embedding = dit.time_text_embed(sigma, image.dtype)
    still = dit.time_text_embed(sigma[:1] * 0, image.dtype) if references else None
    shapes = [(1, one.shape[-2] // 2, one.shape[-1] // 2) for one in pictures]
    ropes = dit.pos_embed(shapes, [text.shape[1]], device=latents.device)
    cosine, sine = (torch.cat([part(rope) for rope in reversed(ropes)]) for part in (_real, _imag))
    mask = functional.pad(counts, (0, image.shape[1]), value=True)[:, None, None, :]
    _, height, width = shapes[0]
    tokens = height * width
    for block in dit.transformer_blocks:
        image, text = run(block, image, text, embedding, cosine, sine, mask, still, tokens)
    patches = dit.proj_out(dit.norm_out(image[:, :tokens], embedding))
    grid = patches.unflatten(1, (height, width)).unflatten(-1, (-1, 2, 2))
    return grid.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def _patches(latents: Tensor) -> Tensor:
    height, width = latents.shape[-2] // 2, latents.shape[-1] // 2
    grid = latents.unflatten(2, (height, 2)).unflatten(4, (width, 2))
    return grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def _real(rope: Tensor) -> Tensor:
    return rope.real


def _imag(rope: Tensor) -> Tensor:
    return rope.imag


def joint_block(
    block: Any, image: Tensor, text: Tensor, embedding: Tensor, cosine: Tensor, sine: Tensor,
    mask: Tensor, still: Tensor | None = None, tokens: int = 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Do what `QwenImageTransformerBlock` does; text stands before the image in ropes and mask.

    Image rows behind the first `tokens` are modulated by `still` [1, width], where it is given.
    """
    attn = block.attn
    rows = block.img_mod(embedding)[:, None]
    if still is not None:
        count, others = len(image), image.shape[1] - tokens
        parts = rows.expand(-1, tokens, -1), block.img_mod(still)[:, None].expand(count, others, -1)
        rows = torch.cat(parts, 1)
    shift_i, scale_i, gate_i, *mlp_i = rows.chunk(6, -1)
    shift_t, scale_t, gate_t, *mlp_t = block.txt_mod(embedding)[:, None].chunk(6, -1)
    x_i, x_t = _norm(image, scale_i, shift_i), _norm(text, scale_t, shift_t)
    query = _joined(attn.add_q_proj(x_t), attn.to_q(x_i), attn.norm_added_q, attn.norm_q)
    key = _joined(attn.add_k_proj(x_t), attn.to_k(x_i), attn.norm_added_k, attn.norm_k)
    value = torch.cat((attn.add_v_proj(x_t), attn.to_v(x_i)), 1).unflatten(-1, (-1, HEAD))
    query, key = _turned(query, cosine, sine), _turned(key, cosine, sine)
    heads = (x.transpose(1, 2).to(value.dtype) for x in (query, key, value))
    out = functional.scaled_dot_product_attention(*heads, attn_mask=mask)
    out_t, out_i = out.transpose(1, 2).flatten(2).split((text.shape[1], image.shape[1]), 1)
    image = image + gate_i * attn.to_out(out_i)
    text = text + gate_t * attn.to_add_out(out_t)
    image = image + mlp_i[2] * _mlp(block.img_mlp, _norm(image, mlp_i[1], mlp_i[0]))
    text = text + mlp_t[2] * _mlp(block.txt_mlp, _norm(text, mlp_t[1], mlp_t[0]))
    return image, text


def _norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return functional.layer_norm(x, (x.shape[-1],), eps=_EPSILON) * (1 + scale) + shift


def _joined(text: Tensor, image: Tensor, text_norm: Any, image_norm: Any) -> Tensor:
    split = (-1, HEAD)
    return torch.cat(
        (text_norm(text.unflatten(-1, split)), image_norm(image.unflatten(-1, split))), 1
    )


def _turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    one, other = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = cosine[:, None], sine[:, None]
    return torch.stack((one * cosine - other * sine, one * sine + other * cosine), -1).flatten(-2)


def _mlp(mlp: Any, x: Tensor) -> Tensor:
    hidden = mlp.net[0].proj(x)
    return mlp.net[2](hidden * torch.sigmoid(_QUICK_GELU * hidden))


def text_states(model: Any, state: Tensor, run: Layer, places: Tensor | None = None) -> Tensor:
    """Return the language model's last states [prompts, tokens, width], its norm applied.

    `state` are its inputs, words' embeddings or a picture's rows. `places` [3, tokens] or [prompts,
    3, tokens] are positions in time, height and width; text has one number on all three, by default
    its place.
    """
    count, device = state.shape[1], state.device
    if places is None:
        places = torch.arange(count, device=device).expand(3, -1)
    powers = torch.arange(0, HEAD, 2, device=device, dtype=torch.float32) / HEAD
    axes = torch.repeat_interleave(torch.tensor(mrope_sections(HEAD // 2)))
    angles = places[..., axes.to(device), :].mT * 10000.0**-powers
    cosine, sine = angles.cos(), angles.sin()
    for layer in model.layers:
        state = run(layer, state, cosine, sine)
    return model.norm(state)


def text_layer(layer: Any, state: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Do what `Qwen2_5_VLDecoderLayer` does, padding on the right left to causality."""
    attn = layer.self_attn
    x = layer.input_layernorm(state)
    query, key, value = (
        linear(x).unflatten(-1, (-1, HEAD)) for linear in (attn.q_proj, attn.k_proj, attn.v_proj)
    )
    groups = query.shape[2] // key.shape[2]
    query, key = turned_halves(query, cosine, sine), turned_halves(key, cosine, sine)
    key, value = (x.to(value.dtype).repeat_interleave(groups, 2) for x in (key, value))
    out = functional.scaled_dot_product_attention(
        query.to(value.dtype).transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        is_causal=True,
    )
    state = state + attn.o_proj(out.transpose(1, 2).flatten(2))
    x = layer.post_attention_layernorm(state)
    mlp = layer.mlp
    return state + mlp.down_proj(functional.silu(mlp.gate_proj(x)) * mlp.up_proj(x))


def turned_halves(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn the first half of each head against the second: Qwen2.5-VL's rotary positions."""
    one, other = x.float().chunk(2, -1)
    cosine, sine = cosine[..., None, :], sine[..., None, :]
    return torch.cat((one * cosine - other * sine, other * cosine + one * sine), -1)


@torch.no_grad()
def sample(
    painter: Painter,
    prompts: list[str],
    size: tuple[int, int] = (256, 256),
    *,
    steps: int = 10,
    guidance: float = 4.0,
    seed: int = 0,
) -> Tensor:
    """Return latents [prompts, 16, height / 8, width / 8], drawn as the pipeline draws them."""
    device = next(painter.parameters()).device
    ids, counts = (x.to(device) for x in caption_ids([*prompts, *[""] * len(prompts)]))
    width, height = size
    scheduler = FlowMatchScheduler("Qwen-Image")
    scheduler.set_timesteps(steps, dynamic_shift_len=(height // 16) * (width // 16))
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(len(prompts), 16, height // 8, width // 8, generator=generator)
    latents = latents.to(device)
    for timestep in scheduler.timesteps:
        sigma = (timestep / 1000).to(device).expand(2 * len(prompts))
        both = predict(painter, torch.cat([latents, latents]), sigma, ids, counts).float()
        positive, negative = both.chunk(2)
        guided = negative + guidance * (positive - negative)
        latents = scheduler.step(guided, timestep, latents)
    return latents
