"""The sequence of the trial's parts, and which of them each one needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bot.lab.trial.bench import Bench, Figures
from bot.lab.trial.computing import blocks, compiling, decoding, steps
from bot.lab.trial.memory import card, pinning, plan
from bot.lab.trial.outlook import seconds

SEQUENCE: Final[dict[str, tuple[Callable[[Bench], Figures], tuple[str, ...]]]] = {
    "card": (card, ()),
    "plan": (plan, ("card",)),
    "blocks": (blocks, ("plan",)),
    "pinning": (pinning, ("blocks",)),
    "compiling": (compiling, ("blocks",)),
    "steps": (steps, ("blocks",)),
    "decoding": (decoding, ("blocks",)),
    "seconds": (seconds, ("steps",)),
}
"""In the order in which the engine meets them."""
