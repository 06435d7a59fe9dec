"""A probe of PyTorch: `python -m bot.engine.child.probe BYTES` prints as JSON what it can do here.

It pins that many bytes of main memory for a moment, as the streaming engine would.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any, Final

# About a block of the largest model.
_PIECE_BYTES: Final = 2**28


def look(pin_bytes: int) -> dict[str, Any]:
    """Return PyTorch's build and what it can use; uses the card for a moment."""
    import torch  # noqa: PLC0415 - its failure is what the caller wants to know

    told: dict[str, Any] = {"version": torch.__version__, "cuda": torch.version.cuda}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        told["available"] = torch.cuda.is_available()
    told["why"] = " ".join(str(caught[0].message).split())[:200] if caught else ""
    if told["available"]:
        told["device"] = torch.cuda.get_device_name()
        told["capability"] = torch.cuda.get_device_capability()
        told |= _pin(torch, pin_bytes)
    return told


def _pin(torch: Any, wanted: int) -> dict[str, Any]:
    """Register ordinary memory with the driver, piece by piece, until it refuses."""
    told: dict[str, Any] = {"pin_wanted": wanted, "pinned": 0, "pinned_error": ""}
    pieces: list[Any] = []
    torch.cuda.init()
    runtime = torch.cuda.cudart()
    try:
        while told["pinned"] < wanted:
            memory = torch.empty(min(_PIECE_BYTES, wanted - told["pinned"]), dtype=torch.uint8)
            status = int(runtime.cudaHostRegister(memory.data_ptr(), memory.numel(), 0))
            if status != 0:
                told["pinned_error"] = f"CUDA error {status}"
                break
            pieces.append(memory)
            told["pinned"] += memory.numel()
    except (RuntimeError, MemoryError) as error:
        told["pinned_error"] = type(error).__name__
    for memory in pieces:
        runtime.cudaHostUnregister(memory.data_ptr())
    return told


if __name__ == "__main__":
    sys.stdout.write(json.dumps(look(int(sys.argv[1]))) + "\n")
