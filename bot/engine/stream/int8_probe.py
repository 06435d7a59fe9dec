"""Whether INT8 products work here: tried with the model's shapes, and their tiles chosen."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch

from bot.engine.stream import int8
from bot.engine.stream.quantize import Matmul

log = logging.getLogger(__name__)


def probe_int8_matmul(
    shapes: Iterable[tuple[int, int]],
    device: torch.device,
    *,
    tokens: Iterable[int] = (1, 12, 122, 8064),
) -> Matmul:
    """Return `INT8` if products work for every (rows, columns) and number of tokens.

    Each is compared with its float32 value. Else `WEIGHT_ONLY`, and a sentence is logged.
    """
    refusal = _refusal(list(shapes), list(tokens), device)
    if refusal is None:
        return Matmul.INT8
    log.warning("INT8 products do not work here, weights are widened: %s.", refusal)
    return Matmul.WEIGHT_ONLY


def _refusal(shapes: list[tuple[int, int]], tokens: list[int], device: torch.device) -> str | None:
    if device.type == "cuda":
        if not int8.kernels_work(device):
            return "Triton's kernels do not run"
        from bot.engine.stream import int8_launch  # noqa: PLC0415 - Triton is here by now
    else:
        int8_launch = None
        tokens = [count for count in tokens if count <= 122]  # noqa: PLR2004 - plain code is slow
    generator = torch.Generator(device).manual_seed(0)
    for rows, columns in shapes:
        weight = torch.randn(rows, columns, device=device, generator=generator).bfloat16()
        quantized, scale = int8.quantize_rows(weight)
        bias = torch.ones(rows, device=device, dtype=torch.bfloat16)
        for count in tokens:
            x = torch.randn(count, columns, device=device, generator=generator).bfloat16()
            where = f"{count} tokens, {columns} to {rows}"
            try:
                if int8_launch is not None and count in (122, max(tokens)):
                    int8_launch.choose(rows, columns, count, device)
                few = count < max(tokens)
                out = int8.int8_linear(x, quantized, scale, bias, few=few).float()
            except (RuntimeError, ValueError) as error:
                return f"{where}: {str(error).splitlines()[0][:120]}"
            exact = x.float() @ weight.float().t() + 1.0
            if not bool((out - exact).norm() <= 0.04 * exact.norm()):  # NaN fails too
                return f"{where}: wrong values"
    return None
