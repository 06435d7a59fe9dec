"""Verdicts of the image check, and how openly a server has pictures shown by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, Self

from bot.domain.job import ImageRecord


class Verdict(StrEnum):
    """What the image check said of a picture; the column `images.verdict`."""

    CLEAR = "clear"
    FLAGGED = "flagged"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Checked:
    """A verdict, and the score from 0 to 1 that it comes from (None where the check failed)."""

    verdict: Verdict
    score: float | None = None


class ImageCheck(Protocol):
    """Looks at finished pictures."""

    async def look(self, pictures: Sequence[tuple[Path, str]]) -> list[Checked]:
        """Return what is to be thought of each picture; never raises because of one.

        A picture is its file and the SHA-256, in hex, of what was recorded: another is not checked.
        """
        ...

    async def close(self) -> None:
        """Let go of whatever it holds."""
        ...


class Exposure(StrEnum):
    """How openly a picture is shown, from all to nothing."""

    ALLOW = "allow"
    SPOILER = "spoiler"
    DM = "dm"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a server does with flagged pictures, in age-restricted channels and elsewhere.

    The defaults also hold outside of servers: nobody's age is known there.
    """

    restricted: Exposure = Exposure.ALLOW
    elsewhere: Exposure = Exposure.SPOILER

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Read stored values; what is unknown counts as not set."""
        known = {exposure.value: exposure for exposure in Exposure}
        default = cls()
        return cls(
            known.get(str(values.get("flagged_restricted")), default.restricted),
            known.get(str(values.get("flagged_elsewhere")), default.elsewhere),
        )

    def exposure(self, *, restricted: bool, alone: bool) -> Exposure:
        """Return how a flagged picture is shown; `alone`: to its owner only, wherever that is."""
        chosen = self.restricted if restricted else self.elsewhere
        # What only its owner sees need not go elsewhere to be private.
        return Exposure.SPOILER if alone and chosen is Exposure.DM else chosen


def is_flagged(images: Iterable[ImageRecord]) -> bool:
    """Tell whether one of these pictures is to be shown with care.

    A check that failed proves nothing, so its pictures are treated as flagged ones.
    """
    return any(image.verdict in {Verdict.FLAGGED, Verdict.FAILED} for image in images)
