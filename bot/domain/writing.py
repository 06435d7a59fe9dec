"""What is written instead of a picture, or before one, and how long it may be."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Writing(StrEnum):
    """What a job writes."""

    ENHANCE = "enhance"
    """The prompt, rewritten: it is shown before anything is drawn."""
    DESCRIBE = "describe"
    """What a picture shows, and prompts for it."""
    ALT = "alt"
    """One sentence about a finished picture, its alternative text."""


class Enhance(StrEnum):
    """What becomes of a prompt before it is drawn."""

    OFF = "off"
    ASK = "ask"
    """It is rewritten, and shown before anything is drawn."""
    ALWAYS = "always"
    """It is rewritten, and drawn."""


EXPECTED_TOKENS: Final = {Writing.ENHANCE: 200.0, Writing.DESCRIBE: 300.0, Writing.ALT: 50.0}
"""Tokens of an answer, as estimates count them: what its instruction asks for."""
MOST_TOKENS: Final = {Writing.ENHANCE: 600, Writing.DESCRIBE: 900, Writing.ALT: 120}
"""Tokens after which an answer ends."""
