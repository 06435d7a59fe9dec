"""The pipes to the parent, taken from stdin and stdout before anything can print to them.

Imports next to nothing: it runs before all other imports.
"""

from __future__ import annotations

import os


def take_pipes() -> tuple[int, int]:
    """Return new descriptors of the parent's pipes (read, write); 0 is empty then, and 1 is 2."""
    frames_in, frames_out = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return frames_in, frames_out
