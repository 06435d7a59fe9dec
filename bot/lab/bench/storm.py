"""Long runs of the crash tests, by hand: `python -m bot bench storm` and `bench soak`.

They drive the bot from outside with the tests' own tools, which an installation may lack.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from typing import Any

from bot.errors import BotError


def _tool(name: str) -> Any:
    try:
        return importlib.import_module(f"tests.crash.{name}")
    except ModuleNotFoundError:
        raise BotError(
            "This benchmark needs the folder tests/: run it in a checkout of the source."
        ) from None


def run(options: argparse.Namespace) -> int:
    """Run `bench storm` or `bench soak`, print the report; return 0 if every promise held."""
    if options.bench == "soak":
        figures, faults = _tool("soak").main(options.jobs)
    else:
        figures, faults = _tool("storm").main(
            options.jobs, options.kills, options.seed, options.pipeline, options.engines
        )
    _print(figures, faults)
    return 1 if faults else 0


def _print(figures: dict[str, Any], faults: list[str]) -> None:
    sys.stdout.write(json.dumps(figures) + "\n\n")
    for name, value in figures.items():
        sys.stdout.write(f"{name.replace('_', ' '):18} {value}\n")
    for fault in faults[:50]:
        sys.stdout.write(f"FAULT {fault}\n")
