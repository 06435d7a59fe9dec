"""The slot of one engine in the fleet: its worker, whether it takes jobs, and which suit it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, Final

from bot.domain.job import Job
from bot.engine.protocol import READY, CardUse, Engine
from bot.fleet.worker import GpuWorker
from bot.jobs.outlook import EngineOutlook
from bot.jobs.seats import misfit
from bot.jobs.tasks import unbroken


class Standby(StrEnum):
    """Why an engine takes no job. `DRAINED`: it also frees its card once it has ended its job."""

    PAUSED = "paused"
    DRAINED = "drained"


class EngineSlot:
    """One engine of the fleet, and what is known of it."""

    def __init__(self, name: str, engine: Engine, *, node: str, card: str | None) -> None:
        self.name: Final = name
        self.engine: Final = engine
        self.node: Final = node
        self.standby: Standby | None = None
        self.standing_back = False
        """Whether it leaves a job that it failed to the others, and takes none meanwhile."""
        self.worker: GpuWorker
        self._card = card
        self._handed: asyncio.Future[Job] | None = None

    @property
    def card(self) -> str | None:
        """The graphics card's name: what the engine said when it loaded, or what was known."""
        return self.worker.session.device or self._card

    @property
    def card_use(self) -> CardUse | None:
        """How it uses its card, while its model is loaded and that is known."""
        return self.worker.session.card_use if self.engine.state in READY else None

    @property
    def job(self) -> Job | None:
        """The job that it draws."""
        return self.worker.current

    @property
    def speed(self) -> float | None:
        """Megapixel steps a second of late, or None before its model's first picture."""
        return self.worker.measured.of(self.worker.session.model)

    @property
    def free(self) -> bool:
        """Whether it waits for a job."""
        return self.standby is None and self._handed is not None and not self._handed.done()

    @property
    def able(self) -> bool:
        """Whether it takes jobs: the next one, or another when it has ended its own."""
        return self.standby is None and not self.standing_back and not self.worker.pausing

    @property
    def loaded(self) -> str | None:
        """The model that it holds, None where none is, or none drew yet."""
        return self.worker.session.model if self.engine.state in READY else None

    def outlook(self, *, alone: bool) -> EngineOutlook:
        """Return the engine as the estimates see it; one of several draws at a speed of its own."""
        job, speed, session = self.worker.current or self._in_hand, self.speed, self.worker.session
        return EngineOutlook(
            job_id=None if job is None else job.id,
            ready=self.engine.state in READY,
            taking=self.able,
            rate=None if alone or speed is None else 1 / speed,
            model=session.model,
            waits=self.free,
            switched=self.worker.current is not None and session.switched,
        )

    @property
    def _in_hand(self) -> Job | None:
        """The job that it was handed, and has not begun."""
        handed = self._handed
        return handed.result() if handed and handed.done() and not handed.cancelled() else None

    async def load(self) -> None:
        """Have the engine load its own model, unless it has one; raise `EngineError`."""
        empty = self.engine.state not in READY
        await self.engine.load()
        if empty and self.job is None:
            self.worker.session.model = self.engine.name  # Its last job's may have been another.

    def suits(
        self, job: Job, model: str, copies: Counter[str | None]
    ) -> tuple[bool, bool, tuple[bool, int], bool, float]:
        """Return a key that is smallest for the engine which `job`, of `model`, should go to.

        `copies` counts the engines that hold each model.
        """
        wanted = frozenset(name for name, _strength in job.request.lora_strengths())
        return (
            self.worker.crashes > 0,
            self.engine.state not in READY,
            misfit(self.loaded, model, copies),
            self.worker.session.loras != wanted,
            -(self.speed or 0.0),
        )

    def hand(self, job: Job) -> None:
        """Give it a job; it must be free."""
        assert self._handed is not None
        self._handed.set_result(job)

    async def wait(
        self, freed: Callable[[], None], too_late: Callable[[Job], Coroutine[Any, Any, None]]
    ) -> Job:
        """Wait for a job; one that comes into a cancellation goes to `too_late`."""
        handed = self._handed = asyncio.get_running_loop().create_future()
        freed()
        try:
            return await handed
        except asyncio.CancelledError:
            if handed.done() and not handed.cancelled():
                await unbroken(too_late(handed.result()))
            raise
        finally:
            self._handed = None
