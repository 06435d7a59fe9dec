"""The error that rounding adds up to over a transformer's blocks, against float32.

One stream of activations goes through the engine's own block for each way to compute it, all with
the same random weights. Text is along, guidance is not: this measures blocks, `exact` a prediction.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from bot.engine.stream.block import Kernel, Matrix, Stream, Weights, run_block
from bot.engine.stream.int8_probe import probe_int8_matmul
from bot.engine.stream.layout import Geometry
from bot.engine.stream.quantize import Matmul, probe_fp8_matmul
from bot.engine.stream.storage import Storage, dequantize
from bot.lab.step import parts
from bot.lab.step.context import Context

_SHOWN: Final = (1, 10, 30, 60)
_TEXT: Final = 110
_NOISE: Final = {"even": False, "heavy tails": True}


def depth(context: Context) -> None:
    """Measure with channels alike, and with a few that are much larger than others."""
    geometry, device = context.geometry, context.device
    ways = _ways(geometry, device)
    for name, heavy in _NOISE.items():
        for blocks, found in _errors(context, ways, heavy=heavy):
            context.figures.setdefault("depth", {}).setdefault(name, {})[blocks] = found
            rounded = {way: round(value, 5) for way, value in found.items()}
            context.say(f"    {name}, {blocks} blocks", rounded)


Way = tuple[torch.dtype, Storage, Matmul]


def _ways(geometry: Geometry, device: torch.device) -> dict[str, Way]:
    dim = geometry.dim
    shapes = [(3 * dim, dim), (dim, dim), (4 * dim, dim), (dim, 4 * dim)]
    half, only = torch.bfloat16, Matmul.WEIGHT_ONLY
    return {
        "float32": (torch.float32, Storage.PLAIN, only),
        "bf16": (half, Storage.PLAIN, only),
        "fp8": (half, Storage.FP8, only),
        "fp8-fast": (half, Storage.FP8, probe_fp8_matmul(shapes, device)),
        "int8": (half, Storage.INT8, only),
        "int8-fast": (half, Storage.INT8, probe_int8_matmul(shapes, device)),
    }


@torch.no_grad()
def _errors(context: Context, ways: dict[str, Way], *, heavy: bool) -> Any:
    geometry, device, work = context.geometry, context.device, context.usual
    dim, tokens = geometry.dim, work.image_tokens
    generator = torch.Generator(device).manual_seed(3)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    image, text = drawn(1, tokens, dim), drawn(_TEXT, dim)
    channels = torch.exp(drawn(dim)) if heavy else torch.ones(dim, device=device)
    angles = drawn(max(tokens, _TEXT), geometry.head_dim // 2)
    turns = torch.view_as_real(torch.polar(torch.ones_like(angles), angles)).contiguous()
    rope, text_rope = turns[:tokens], turns[:_TEXT]
    states = {name: (image.to(way[0]), [text.to(way[0])]) for name, way in ways.items()}
    norms = torch.ones(2, geometry.head_dim, device=device)
    for index in range(geometry.layers):
        # As trained ones look: shifts near 0, 1 + scale near 1 (which enters products), gates.
        modulation = drawn(12, dim) * 0.1
        modulation[[2, 5, 8, 11]] = drawn(4, dim) * 0.5
        modulation[[1, 4, 7, 10]] = (1 + modulation[[1, 4, 7, 10]]) * channels
        sides = [[_layer(drawn, *shape) for shape in _shapes(dim)] for _ in range(2)]
        for name, (dtype, storage, matmul) in ways.items():
            kernel = Kernel(geometry, matmul, quick_gelu_folded=True)
            wide = matmul is Matmul.WEIGHT_ONLY
            streams: list[Stream] = []
            for side in sides:
                first, *others = (_stored(w, b, dtype, storage, wide=wide) for w, b in side)
                streams.append(Stream(first, norms, *others))
            states[name] = run_block(
                kernel, *states[name], modulation.to(dtype), Weights(*streams), rope, [text_rope]
            )
            del streams
        if index + 1 in (*_SHOWN, geometry.layers):
            exact = states["float32"][0]
            yield (
                index + 1,
                {n: parts.error(s[0].float(), exact) for n, s in states.items() if n != "float32"},
            )


def _shapes(dim: int) -> list[tuple[int, int]]:
    return [(3 * dim, dim), (dim, dim), (4 * dim, dim), (dim, 4 * dim)]


def _layer(drawn: Any, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    return drawn(rows, columns) * 0.02, drawn(rows) * 0.01


def _stored(
    weight: Tensor, bias: Tensor, dtype: torch.dtype, storage: Storage, *, wide: bool
) -> Matrix:
    """Return a layer as the engine would have it in a visit, stored and widened by its own code."""
    if not storage.quantized:
        return Matrix(weight.to(dtype), bias.to(dtype))
    quantized, scale = storage.quantize_rows(weight, 1.0)
    if not wide:
        return Matrix(quantized, bias.to(dtype), scale)
    out = torch.empty_like(weight, dtype=dtype)
    dequantize(quantized, scale[:, None], out)
    return Matrix(out, bias.to(dtype))
