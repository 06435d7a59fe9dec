"""Quality levels as settings say them: steps and guidance."""

from __future__ import annotations

from bot.catalogue.models import Quality
from bot.domain.request import ImageRequest
from bot.errors import InvalidRequest


def read_quality(value: str) -> Quality:
    """Read `steps` or `steps:guidance`; raise `ValueError` with a sentence."""
    steps, colon, guidance = value.partition(":")
    try:
        level = Quality(int(steps), float(guidance) if colon else 4.0)
        # The same bounds as for a request, with the same sentences.
        ImageRequest("x", steps=level.steps, guidance=level.guidance)
    except InvalidRequest as error:
        raise ValueError(error.sentence) from None
    except ValueError:
        raise ValueError("it must be steps:guidance, such as 20:4.0") from None
    return level
