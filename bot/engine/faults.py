"""Faults of the drawing code: what an exception means for the child that caught it; no torch."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bot.errors import EngineError, EngineErrorKind

_MEMORY_TEXTS: Final = (
    "out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cudnn_status_internal_error_host_allocation_failed",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
)
_CUDA_TEXTS: Final = ("cuda error", "cublas_status", "cudnn_status", "device-side assert", "nccl")

_LENGTH: Final = 500

# Kinds of error after which the child is as good as before.
HARMLESS: Final = frozenset(
    {
        EngineErrorKind.RAISED,
        EngineErrorKind.OUT_OF_MEMORY,
        EngineErrorKind.REFUSED,
        EngineErrorKind.DISK_REFUSED,
        EngineErrorKind.SWITCH_FAILED,
    }
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A caught exception. `fatal`: the process is of no further use (a ruined CUDA context)."""

    kind: EngineErrorKind
    detail: str
    sentence: str | None = None
    fatal: bool = False
    values: Mapping[str, str] = field(default_factory=dict[str, str])
    """What fills the placeholders of `sentence`."""


def diagnose(error: BaseException, *, secret: str = "") -> Fault:
    """Return what `error` means; `secret` (the prompt) is cut out of the detail."""
    if isinstance(error, EngineError):
        sentence = None if error.template is None else error.template[:_LENGTH]
        values = {key: value[:_LENGTH] for key, value in error.values.items()}
        return Fault(error.kind, error.detail[:_LENGTH], sentence, values=values)
    line = traceback.format_exception_only(error)[-1].strip()
    if secret:
        line = line.replace(secret, "…")
    detail = line[:_LENGTH]
    text = line.lower()
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(words in text for words in _MEMORY_TEXTS)
    ):
        return Fault(EngineErrorKind.OUT_OF_MEMORY, detail)
    # An illegal access or a device-side assert stays in the CUDA context until the process ends.
    fatal = type(error).__name__ == "AcceleratorError" or any(t in text for t in _CUDA_TEXTS)
    return Fault(EngineErrorKind.RAISED, detail, fatal=fatal)


def account_of(error: BaseException) -> str:
    """Return what the log says of an error, each line with its end.

    That is a traceback, but for what is foreseen: an `EngineError` with a sentence of its own says
    what is wrong better, and only what brought it about is named.
    """
    if not (isinstance(error, EngineError) and error.template is not None):
        return "".join(traceback.format_exception(error))
    if error.__cause__ is None:
        return ""
    return f"it came of {traceback.format_exception_only(error.__cause__)[-1].strip()}\n"


def free_memory() -> None:
    """Give unused GPU memory back; call it once nothing refers to the failed job's tensors."""
    import gc  # noqa: PLC0415 - rare

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
