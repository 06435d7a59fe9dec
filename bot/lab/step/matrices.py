"""The image stream's four products alone: time in bf16, FP8 and INT8, and what rounding costs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bot.engine.stream import int8, quantize
from bot.engine.stream.int8_probe import probe_int8_matmul
from bot.engine.stream.quantize import Matmul
from bot.lab.step import parts
from bot.lab.step.context import Context


def matrices(context: Context) -> None:
    """Time each product at one and at two branches' tokens, in milliseconds."""
    dim, tokens = context.geometry.dim, context.usual.image_tokens
    shapes = [(3 * dim, dim), (dim, dim), (4 * dim, dim), (dim, 4 * dim)]
    works = probe_int8_matmul(shapes, context.device) is Matmul.INT8
    if works and context.cuda:
        from bot.engine.stream import int8_launch  # noqa: PLC0415 - Triton is here

        context.say("    tiles", {str(k[1:]): list(v) for k, v in int8_launch.chosen.items()})
    for count in (tokens, 2 * tokens):
        for rows, columns in shapes:
            name = f"{count} x {columns} -> {rows}"
            context.guarded(
                f"product {name}", lambda r=rows, c=columns, n=count: _one(context, n, c, r)
            )


def _one(context: Context, count: int, columns: int, rows: int) -> None:
    generator = torch.Generator(context.device).manual_seed(1)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=context.device)

    x, weight, bias = drawn(count, columns).bfloat16(), drawn(rows, columns) * 0.02, drawn(rows)
    wide, bias = weight.bfloat16(), bias.bfloat16()
    exact = x.float() @ weight.t() + bias.float()
    figures: dict[str, Any] = {}

    def timed(name: str, work: Callable[[], Any], *, judged: bool = False) -> None:
        try:
            out = work()
            milliseconds = 1e3 * parts.seconds(context.device, work)
        except Exception as error:  # noqa: BLE001 - the other figures still count
            figures[name] = repr(error)[:120]
            return
        figures[name] = round(milliseconds, 4)
        if judged:
            figures[f"{name} error"] = round(parts.error(out.float(), exact), 5)

    timed("bf16", lambda: functional.linear(x, wide, bias), judged=True)
    quantized, scale = quantize.quantize_rows(weight)
    flat, token_scale = quantize.quantize_tokens(x)
    timed(
        "fp8 row",
        lambda: quantize.scaled_mm(
            flat, quantized.t(), scale_a=token_scale, scale_b=scale[None], bias=bias,
            out_dtype=torch.bfloat16, use_fast_accum=False,
        ),
        judged=True,
    )  # fmt: skip
    whole, steps = int8.quantize_rows(weight)
    tokens, sizes = int8.quantize_tokens(x, silu=False)
    given = (tokens, sizes, whole, steps, bias, torch.bfloat16)
    timed("int8", lambda: int8.scaled_product(*given, few=False), judged=True)
    rounding = torch.compile(quantize.quantize_tokens) if context.cuda else quantize.quantize_tokens
    timed("fp8 rounding", lambda: rounding(x))
    timed("int8 rotating and rounding", lambda: int8.quantize_tokens(x, silu=False))
    timed("the same with SiLU", lambda: int8.quantize_tokens(x, silu=True))
    if importlib.util.find_spec("comfy_kitchen") is not None:
        kitchen: Any = importlib.import_module("comfy_kitchen")
        timed("int8 with rounding", lambda: int8.int8_linear(x, whole, steps, bias))
        timed("comfy-kitchen's int8 with rounding", lambda: kitchen.int8_linear(
            x, whole, steps, bias, out_dtype=torch.bfloat16, convrot=True, convrot_groupsize=64
        ))  # fmt: skip
    name = f"{count} x {columns} -> {rows}"
    context.figures.setdefault("matrices", {})[name] = figures
    context.say("   ", figures)
