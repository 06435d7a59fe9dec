"""What IMAGE_PRECISION=auto chose on this machine's cards, as engines keep it; imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

KEPT: Final = "precision.json"
"""In the folder of compiled code: a mapping of card, versions and shapes to what was measured."""
MOST_BYTES: Final = 2**20


def kept_choices(folder: Path) -> list[tuple[str, str, float]]:
    """Return each card with what was chosen on it, and how many times as fast `int8-fast` was.

    A card of several models or versions has the newest of each. Raises `OSError`, and `ValueError`
    for a file that is damaged.
    """
    with (folder / KEPT).open("rb") as file:
        values: Any = json.loads(file.read(MOST_BYTES))
    try:
        found = {
            str(key).partition(";")[0]: (
                str(value["precision"]),
                float(value["measured"]["int8_ms"]) / float(value["measured"]["int8_fast_ms"]),
            )
            for key, value in values.items()
        }
    except (AttributeError, KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError("it is not what was kept") from error
    return [(card, *choice) for card, choice in found.items()]
