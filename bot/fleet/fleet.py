"""The fleet: several engines on one queue, each with a worker of its own.

The order is the queue's, which looks at the models that the free engines hold. Where several are
free, a job goes to one that holds its model, and already its LoRAs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final

from bot.domain.job import Job
from bot.engine.protocol import Engine, EngineState
from bot.errors import EngineError, InvalidRequest
from bot.fleet.dispatcher import Dispatcher
from bot.fleet.engine_slot import EngineSlot, Standby
from bot.fleet.roster import Roster
from bot.fleet.second_tries import SecondTries
from bot.fleet.worker import GpuWorker
from bot.jobs.queue import JobQueue
from bot.jobs.tasks import unbroken
from bot.rules.verdicts import ImageCheck
from bot.words import _
from storage import audit, facts
from storage.database import Database, Transaction
from storage.images import ImageStore

log = logging.getLogger(__name__)

# Of the few seconds that a clean stop may take.
_STOP_S: Final = 4.0
# What the whole is doing is what its busiest engine does.
_RANK: Final = (
    EngineState.BUSY,
    EngineState.IDLE,
    EngineState.LOADING,
    EngineState.STARTING,
    EngineState.BACKOFF,
)


class Fleet:
    """The engines of one bot; they may come and go while it runs."""

    def __init__(
        self,
        queue: JobQueue,
        store: ImageStore,
        database: Database,
        *,
        check: ImageCheck | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
        retry_s: float = 1.0,
        idle_unload_s: float | None = None,
        time_factor: float = 0.0,
        instruction: str = "",
    ) -> None:
        self._queue = queue
        self._store = store
        self._database = database
        self._check = check
        self._clock = clock
        self._timer = timer
        self._retry_s = retry_s
        self._idle_unload_s = idle_unload_s
        self._time_factor = time_factor
        self._instruction = instruction
        self._roster = Roster(queue)
        self._dispatcher = Dispatcher(queue, self._roster, retry_s)
        self._second_tries = SecondTries(queue, self._roster, retry_s)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._leaving: dict[EngineSlot, asyncio.Task[None] | None] = {}
        self._running = False
        queue.forecast.engines = self._roster.outlooks

    @property
    def slots(self) -> Mapping[str, EngineSlot]:
        """The engines by name, in the order in which they came."""
        return MappingProxyType(self._roster.slots)

    @property
    def state(self) -> EngineState:
        """What the engines are doing, as one word."""
        states = {slot.engine.state for slot in self._roster.slots.values()}
        return next((state for state in _RANK if state in states), EngineState.STOPPED)

    async def add(
        self, name: str, engine: Engine, *, node: str = "local", card: str | None = None
    ) -> EngineSlot:
        """Take an engine in; it begins to work at once, or when `run` does.

        One of that name from before is replaced. A pause of that name holds, also from the last
        run.
        """
        await self.remove(name)
        slot = EngineSlot(name, engine, node=node, card=card)
        slot.worker = GpuWorker(
            self._queue,
            engine,
            self._store.of_engine(name),
            check=self._check,
            timer=self._timer,
            retry_s=self._retry_s,
            idle_unload_s=self._idle_unload_s,
            time_factor=self._time_factor,
            instruction=self._instruction,
            source=lambda: self._next_for(slot),
            elsewhere=lambda job: self._second_tries.elsewhere(slot, job),
        )
        standby = await self._database.read(lambda tx: facts.get_fact(tx, _fact(name)))
        with suppress(ValueError):
            slot.standby = None if standby is None else Standby(standby)
        self._roster.slots[name] = slot
        # Those of the start are told with their cards; later ones are news.
        log.log(
            logging.INFO if self._running else logging.DEBUG, "engine %s joined (%s)", name, node
        )
        if self._running:
            self._start(slot)
        self._roster.tell()
        return slot

    async def remove(self, name: str) -> None:
        """Let an engine go: its job goes back to the queue, and it is closed."""
        slot = self._roster.slots.pop(name, None)
        if slot is None:
            return
        task = self._leaving[slot] = self._tasks.pop(name, None)
        self._roster.tell()
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        await slot.engine.close()
        del self._leaving[slot]
        log.info("engine %s left", name)

    async def close(self) -> None:
        """Close every engine, also those whose leaving was broken off. Idempotent."""
        slots = [*self._roster.slots.values(), *self._leaving]
        await asyncio.gather(*(slot.engine.close() for slot in slots))

    async def run(self) -> None:
        """Hand jobs out until cancelled, which gives the jobs in hand back."""
        await self._store.clear()
        self._running = True
        for slot in self._roster.slots.values():
            self._start(slot)
        handing = asyncio.create_task(self._dispatcher.run(), name="hand-out")
        try:
            while True:
                moved = asyncio.ensure_future(self._roster.move())
                parts = {handing, *self._tasks.values()}
                try:
                    await asyncio.wait({moved, *parts}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    moved.cancel()
                for part in parts:
                    if part.done() and not part.cancelled():
                        part.result()  # None of them ends by itself but with an error.
        finally:
            self._running = False
            # No job is claimed any more before those in hand go back.
            handing.cancel()
            await asyncio.wait({handing})
            await self._stop_working()

    async def _stop_working(self) -> None:
        """End what the engines do; the jobs in hand go back, also those of an engine that hangs."""
        working = {task: self._roster.slots[name] for name, task in self._tasks.items()}
        working |= {task: slot for slot, task in self._leaving.items() if task is not None}
        self._tasks.clear()
        for task in working:
            task.cancel()
        if not working:
            return
        _, hanging = await asyncio.wait(working, timeout=_STOP_S)
        jobs = [job for task in hanging if (job := working[task].job) is not None]
        await asyncio.gather(*(unbroken(self._queue.commits.give_back_surely(job)) for job in jobs))

    # What admins do

    async def set_standby(
        self, name: str, standby: Standby | None, *, by: int, guild_id: int | None = None
    ) -> None:
        """Let an engine take no more jobs, or with None take them again; a restart keeps it.

        Raises `InvalidRequest` where there is no engine of that name.
        """
        slot = self._slot(name)

        async def store(tx: Transaction) -> None:
            await facts.set_fact(tx, _fact(slot.name), standby)
            action = "engine_resume" if standby is None else f"engine_{standby}"
            await audit.record(
                tx, self._clock(), actor_id=by, guild_id=guild_id, action=action, target=slot.name
            )

        await self._database.write(store)
        slot.standby = standby
        slot.worker.unload_when_done = standby is Standby.DRAINED
        self._roster.tell()
        if standby is Standby.DRAINED and slot.job is None:
            await slot.engine.unload()

    async def unload(self) -> tuple[int, int]:
        """Free the cards of all engines that do not draw; return how many were and were not."""
        done = await asyncio.gather(*(m.engine.unload() for m in self._roster.slots.values()))
        return sum(done), len(done) - sum(done)

    async def load(self) -> None:
        """Load the model on every engine that takes jobs, one after another.

        Raises `EngineError` of the first that cannot.
        """
        failure: EngineError | None = None
        for slot in [m for m in self._roster.slots.values() if m.standby is None]:
            try:
                await slot.load()
            except EngineError as error:
                log.warning("engine %s: the model was not loaded: %s", slot.name, error.detail)
                failure = failure or error
            if slot.standby is Standby.DRAINED:  # Meanwhile; its card was to be free.
                await slot.engine.unload()
        if failure is not None:
            raise failure

    # Within

    def _slot(self, name: str) -> EngineSlot:
        if found := self._roster.slots.get(name.strip()):
            return found
        names = ", ".join(self._roster.slots) or "-"
        raise InvalidRequest(_("There is no such engine. There are: {names}.").format(names=names))

    def _start(self, slot: EngineSlot) -> None:
        task = asyncio.create_task(slot.worker.run(), name=f"worker-{slot.name}")
        self._tasks[slot.name] = task

    async def _next_for(self, slot: EngineSlot) -> Job:
        await self._second_tries.stand_back(slot)
        return await slot.wait(self._roster.tell, self._queue.commits.give_back_surely)


def _fact(name: str) -> str:
    return f"engine:{name}"
