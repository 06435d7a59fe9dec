"""What a compiler needs of the system."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys

import torch


def lacking_to_compile(device: torch.device) -> str | None:
    """Return what `torch.compile` lacks here: a C compiler, or Triton for a GPU; None if nothing.

    Triton for Windows brings a C compiler of its own (https://github.com/triton-lang/triton-windows).
    """
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "Triton"
    if device.type == "cuda" and sys.platform == "win32":
        return None
    if os.environ.get("CC") or shutil.which("cc") or shutil.which("cl"):
        return None
    return "a C compiler"
