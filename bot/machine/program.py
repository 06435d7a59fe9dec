"""How this program was called, so that messages name commands that can be typed as they stand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

INSTALLED: Final = "imagine-bot"
"""Its name where the package is installed."""


def program() -> str:
    r"""Return what stands before a command: `imagine-bot`, or the Python that runs and `-m bot`.

    A Python within the folder that the bot was started in is named by its path from there, with
    `\` on Windows; any other one is `python`.
    """
    if Path(sys.argv[0]).stem == INSTALLED:
        return INSTALLED
    # Not resolved: the Python of a virtual environment is a link to the system's.
    python = Path(sys.executable)
    if not python.is_relative_to(Path.cwd()):
        return "python -m bot"
    return f"{python.relative_to(Path.cwd()).with_suffix('')} -m bot"
