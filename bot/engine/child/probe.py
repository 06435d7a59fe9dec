"""A probe of PyTorch: `python -m bot.engine.child.probe` prints as JSON what it can do here."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any, Final

_PINNED_BYTES: Final = 2**30


def look() -> dict[str, Any]:
    """Return PyTorch's build and what it can use; uses the card for a moment."""
    import torch  # noqa: PLC0415 - its failure is what the caller wants to know

    told: dict[str, Any] = {"version": torch.__version__, "cuda": torch.version.cuda}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        told["available"] = torch.cuda.is_available()
    told["why"] = " ".join(str(caught[0].message).split())[:200] if caught else ""
    if told["available"]:
        told["device"] = torch.cuda.get_device_name()
        told |= _pin(torch)
    return told


def _pin(torch: Any) -> dict[str, Any]:
    """Register ordinary memory with the driver, as the streaming engine does."""
    try:
        memory = torch.empty(_PINNED_BYTES, dtype=torch.uint8)
        torch.cuda.init()
        runtime = torch.cuda.cudart()
        status = int(runtime.cudaHostRegister(memory.data_ptr(), _PINNED_BYTES, 0))
        if status == 0:
            runtime.cudaHostUnregister(memory.data_ptr())
    except (RuntimeError, MemoryError) as error:
        return {"pinned": False, "pinned_error": type(error).__name__}
    return {"pinned": status == 0, "pinned_error": f"CUDA error {status}"}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(look()) + "\n")
