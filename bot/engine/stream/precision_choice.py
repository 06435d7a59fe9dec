"""The choice between `int8` and `int8-fast` on a card: measured once, and kept.

Both read the same stored weights. `int8-fast` multiplies in INT8, which most cards do several times
as fast as in bfloat16, and rounds tokens for it. What that gains and costs is tried with the
model's own shapes, against float32 and against what FP8 weights would cost.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch import Tensor
from torch.nn import functional

from bot.engine.files.precision_kept import KEPT, MOST_BYTES
from bot.engine.files.replacing import replacing
from bot.engine.stream import int8, quantize
from bot.engine.stream.card_time import milliseconds
from bot.engine.stream.int8_probe import probe_int8_matmul
from bot.engine.stream.layout import Precision
from bot.engine.stream.quantize import Matmul
from bot.engine.stream.transformer import StreamedDiT

log = logging.getLogger(__name__)

_VERSION: Final = 1
"""Of the kernels; another one has everything measured again."""

Shapes = Sequence[tuple[int, int]]
"""(rows, columns) of a block's matrices."""


@dataclass(frozen=True, slots=True)
class PrecisionTrial:
    """What was measured: milliseconds of a block's products, and their relative L2 errors."""

    int8_ms: float
    int8_fast_ms: float
    int8_fast_error: float
    fp8_error: float

    @property
    def precision(self) -> Precision:
        """`int8-fast` where it is faster and errs no more than FP8 weights would; else `int8`."""
        faster = self.int8_fast_ms < self.int8_ms
        right = self.int8_fast_error <= self.fp8_error  # not for NaN
        return Precision.INT8_FAST if faster and right else Precision.INT8

    @classmethod
    def read(cls, values: Any) -> Self:
        """Read `asdict` of one; raise `TypeError` or `ValueError` for anything else."""
        return cls(**{str(name): float(value) for name, value in dict(values).items()})


def choose_for(dit: StreamedDiT) -> None:
    """Have a transformer whose weights are INT8 multiply by the better way on its device."""
    settings = dit.settings
    shapes = {(piece.rows, piece.columns) for piece in dit.layouts[0].pieces}
    tokens, device = settings.usual.image_tokens, dit.device
    chosen = choose_precision(sorted(shapes), tokens, device.torch, settings.cache)
    device.release_cache()
    dit.configure(settings.budget, chosen, compiled=settings.compile)


def choose_precision(
    shapes: Shapes, tokens: int, device: torch.device, folder: Path | None
) -> Precision:
    """Return the better one for products of `tokens` tokens, measured here or kept in `folder`.

    Where INT8 products do not work, or the card is too full to try them, that is `int8`; nothing is
    kept of it, since that changes.
    """
    known = _read(folder)
    key = _key(shapes, device)
    found = known.get(key)
    if found is None:
        if probe_int8_matmul(shapes, device) is not Matmul.INT8:
            return Precision.INT8
        try:
            found = known[key] = _measured(shapes, tokens, device)
        except torch.OutOfMemoryError:
            log.warning("IMAGE_PRECISION=auto: no memory to try int8-fast at this start; int8.")
            return Precision.INT8
        _keep(folder, known)
        log.info(
            "IMAGE_PRECISION=auto: %s here; a block's products take %.2f ms in INT8 and %.2f ms in "
            "bfloat16, with an error of %.4f (FP8 weights: %.4f).",
            found.precision,
            found.int8_fast_ms,
            found.int8_ms,
            found.int8_fast_error,
            found.fp8_error,
        )
    return found.precision


def _key(shapes: Shapes, device: torch.device) -> str:
    """Return what the measurement holds for: the card, the versions and the model's shapes."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    sizes = " ".join(f"{rows}x{columns}" for rows, columns in sorted(shapes))
    return f"{card}; torch {torch.__version__}; kernels {_VERSION}; {sizes}"


@torch.no_grad()
def _measured(shapes: Shapes, tokens: int, device: torch.device) -> PrecisionTrial:
    generator = torch.Generator(device).manual_seed(1)
    found = [_product(shape, tokens, device, generator) for shape in shapes]

    def mean(errors: Iterable[float]) -> float:
        return (sum(error * error for error in errors) / len(found)) ** 0.5

    return PrecisionTrial(
        sum(one.int8_ms for one in found),
        sum(one.int8_fast_ms for one in found),
        mean(one.int8_fast_error for one in found),
        mean(one.fp8_error for one in found),
    )


def _product(
    shape: tuple[int, int], tokens: int, device: torch.device, generator: torch.Generator
) -> PrecisionTrial:
    """Measure one product of random numbers."""
    rows, columns = shape
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    weight = torch.randn(rows, columns, generator=generator, device=device) * columns**-0.5
    bias = torch.zeros(rows, device=device, dtype=dtype)
    x = torch.randn(tokens, columns, generator=generator, device=device).to(dtype)
    exact = x.float() @ weight.t()
    numbers, scale = int8.quantize_rows(weight)
    wide = torch.empty(rows, columns, device=device, dtype=dtype)

    def widened() -> Tensor:
        int8.dequantize(numbers, scale[:, None], wide)
        return functional.linear(x, wide, bias)

    def whole() -> Tensor:
        return int8.int8_linear(x, numbers, scale, bias)

    rounded, factor = quantize.quantize_rows(weight)
    halves = (rounded.float() * factor[:, None]).to(dtype)
    return PrecisionTrial(
        milliseconds(widened, device),
        milliseconds(whole, device),
        _error(whole(), exact),
        _error(functional.linear(x, halves, bias), exact),
    )


def _error(out: Tensor, exact: Tensor) -> float:
    return ((out.float() - exact).norm() / exact.norm()).item()


def _read(folder: Path | None) -> dict[str, PrecisionTrial]:
    """Return what is kept; what is damaged is measured again."""
    if folder is None:
        return {}
    with suppress(OSError, ValueError, TypeError, AttributeError):
        with (folder / KEPT).open("rb") as file:
            values: Any = json.loads(file.read(MOST_BYTES))
        return {str(key): PrecisionTrial.read(value["measured"]) for key, value in values.items()}
    return {}


def _keep(folder: Path | None, known: dict[str, PrecisionTrial]) -> None:
    if folder is None:
        return
    values = {
        key: {"precision": str(found.precision), "measured": asdict(found)}
        for key, found in known.items()
    }
    try:
        with replacing(folder / KEPT) as file:
            file.write(json.dumps(values, indent=1).encode())
    except OSError as error:
        log.warning("The choice of IMAGE_PRECISION=auto cannot be kept: %s.", error.strerror)
