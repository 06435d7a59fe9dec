"""An engine that draws nothing and takes virtual time, and a store that keeps nothing.

The seconds are those measured on one H100 with full-size random weights (docs/performance.md),
`slower` times as many.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from typing_extensions import override

from bot.domain.job import ImageRecord
from bot.domain.writing import EXPECTED_TOKENS, Writing
from bot.engine.protocol import (
    Ending,
    EngineState,
    Event,
    Finished,
    Picture,
    Request,
    Step,
    WriteRequest,
    Written,
)
from storage.images import ImageStore

# Seconds a step and picture at 512x512, 1344x768 and 2048x2048 (`fp8`, 14 GiB, compiled).
_MEASURED: Final = ((0.262, 0.12), (1.032, 0.2705), (4.194, 1.54))
_ENCODE_S: Final = 0.39
_DECODE_S: Final = 0.15
_SAVE_S: Final = 0.23
_ROOM_S: Final = 1.5
_TOKENS_A_SECOND: Final = 60.0
_BACK_S: Final = 1.0
_SPREAD: Final = 0.03
"""No two jobs take exactly as long, so that no two ends fall on one instant."""


def step_seconds(width: int, height: int) -> float:
    """Return the seconds of a step of one picture on an H100: the parabola through `_MEASURED`."""
    size, seconds = width * height / 1e6, 0.0
    for x, y in _MEASURED:
        share = y
        for other, _ in _MEASURED:
            if other != x:
                share *= (size - other) / (x - other)
        seconds += share
    return seconds


def drawing_seconds(width: int, height: int, steps: int, count: int) -> dict[str, float]:
    """Return the seconds by stage of a job on an H100."""
    return {
        "encode": _ENCODE_S,
        "denoise": step_seconds(width, height) * steps * count,
        "decode": _DECODE_S * count,
        "save": _SAVE_S * count,
    }


def writing_seconds(tokens: float) -> dict[str, float]:
    """Return the seconds by stage of a text on an H100: the bounds that the engine was made for.

    They are not measured at full size (docs/performance.md).
    """
    return {"room": _ROOM_S, "write": tokens / _TOKENS_A_SECOND, "back": _BACK_S}


class VirtualEngine:
    """Takes `slower` times an H100's time for each job, and `switch_s` for another model.

    It holds `model` at first. `model_of` tells that of a job by its id; `started` is told when one
    begins, and for how many seconds it switches first.
    """

    def __init__(
        self,
        name: str,
        slower: float,
        started: Callable[[str, float], None],
        *,
        model: str,
        model_of: Callable[[str], str],
        switch_s: float,
    ) -> None:
        self.name = name
        self.state = EngineState.IDLE
        self._slower = slower
        self._started = started
        self._model = model
        self._model_of = model_of
        self._switch_s = switch_s

    async def load(self) -> None:
        """Do nothing: a model is always loaded."""

    async def generate(self, request: Request) -> AsyncIterator[Event]:
        """Take the time, and tell of pictures that nobody drew."""
        self.state = EngineState.BUSY
        try:
            before, self._model = self._model, self._model_of(request.job_id)
            switch_s = self._switch_s if self._model != before else 0.0
            self._started(request.job_id, switch_s)
            if isinstance(request, WriteRequest):
                stages = writing_seconds(EXPECTED_TOKENS[Writing.ENHANCE])
                timings = {name: seconds * self._slower for name, seconds in stages.items()}
                if switch_s:
                    timings["switch"] = switch_s
                timings["total"] = sum(timings.values())
                await asyncio.sleep(timings["total"])
                yield Written(f"{request.prompt.partition(': ')[2]}, in soft light", 20)
                yield Finished(timings, ending=Ending.STOPPED)
                return
            seeds = request.seeds
            of = random.Random(seeds[0])  # noqa: S311 - nothing secret
            factor = self._slower * of.uniform(1 - _SPREAD, 1 + _SPREAD)
            stages = drawing_seconds(request.width, request.height, request.steps, len(seeds))
            timings = {name: seconds * factor for name, seconds in stages.items()}
            if switch_s:
                timings["switch"] = switch_s
            timings["total"] = sum(timings.values())
            await asyncio.sleep(timings["total"])
            yield Step(request.steps, request.steps)
            for index, seed in enumerate(seeds):
                path = request.output_dir / f"{index}.png"
                yield Picture(index, path, seed, request.width, request.height)
            yield Finished(timings)
        finally:
            self.state = EngineState.IDLE

    async def cancel(self, job_id: str) -> None:
        """Do nothing: nobody cancels in the simulation."""

    async def unload(self) -> bool:
        """Stay loaded."""
        return False

    async def close(self) -> None:
        """Do nothing: there is nothing to free."""


class NoStore(ImageStore):
    """Keeps no file: the pictures' rows are written, and nothing on the disk."""

    @override
    def of_engine(self, name: str) -> NoStore:
        return self

    @override
    def work_dir(self, job_id: str) -> Path:
        return self.root

    @override
    async def keep(
        self,
        job_id: str,
        position: int,
        source: Path,
        *,
        width: int,
        height: int,
        seed: int,
        sha256: str | None = None,
    ) -> ImageRecord:
        name = f"{job_id}_{position:d}.png"
        return ImageRecord(job_id, position, name, "0" * 64, 0, width, height, seed)

    @override
    async def clear(self, job_id: str | None = None) -> None:
        pass
