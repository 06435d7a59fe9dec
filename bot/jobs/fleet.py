"""Several engines on one queue: each has a worker of its own, and the next job goes to the best.

The order is the queue's. An engine takes no part in it: whichever is free first gets the next fair
job, and where several are free, the one that is loaded and already holds the job's LoRAs.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from bot.engine.protocol import Engine, EngineState
from bot.errors import EngineError, InvalidRequest
from bot.jobs.estimate import Slot
from bot.jobs.exposure import ImageCheck
from bot.jobs.model import Job
from bot.jobs.queue import JobQueue
from bot.jobs.tasks import RETRY_LIMIT_S, unbroken, until_stored
from bot.jobs.worker import GpuWorker
from bot.words import _
from storage import audit, facts
from storage.database import Database, Transaction
from storage.images import ImageStore

_log = logging.getLogger(__name__)

_READY: Final = frozenset({EngineState.IDLE, EngineState.BUSY})
# What the whole is doing is what its busiest engine does.
_RANK: Final = (
    EngineState.BUSY,
    EngineState.IDLE,
    EngineState.LOADING,
    EngineState.STARTING,
    EngineState.BACKOFF,
)


class Rest(StrEnum):
    """Why an engine takes no job. `DRAINED`: it also frees its card once it has ended its job."""

    PAUSED = "paused"
    DRAINED = "drained"


class Member:
    """One engine of the fleet, and what is known of it."""

    def __init__(self, name: str, engine: Engine, *, node: str, card: str | None) -> None:
        self.name: Final = name
        self.engine: Final = engine
        self.node: Final = node
        self.rest: Rest | None = None
        self.worker: GpuWorker
        self._card = card
        self._handed: asyncio.Future[Job] | None = None

    @property
    def card(self) -> str | None:
        """The graphics card's name: what the engine said when it loaded, or what was known."""
        return self.worker.device or self._card

    @property
    def job(self) -> Job | None:
        """The job that it draws."""
        return self.worker.current

    @property
    def speed(self) -> float | None:
        """Megapixel steps a second of late, or None before its first picture."""
        return self.worker.speed

    @property
    def free(self) -> bool:
        """Whether it waits for a job."""
        return self.rest is None and self._handed is not None and not self._handed.done()

    @property
    def slot(self) -> Slot:
        """The engine as the estimates see it."""
        job = self.worker.current
        return Slot(
            job_id=None if job is None else job.id,
            ready=self.engine.state in _READY,
            taking=self.rest is None,
        )

    def suits(self, job: Job) -> tuple[bool, bool, bool, float]:
        """Return a key that is smallest for the engine which `job` should go to."""
        wanted = frozenset(name for name, _strength in job.request.lora_strengths())
        return (
            self.worker.crashes > 0,
            self.engine.state not in _READY,
            self.worker.loras != wanted,
            -(self.speed or 0.0),
        )

    def hand(self, job: Job) -> None:
        """Give it a job; it must be free."""
        assert self._handed is not None
        self._handed.set_result(job)

    async def wait(
        self, freed: Callable[[], None], too_late: Callable[[Job], Awaitable[None]]
    ) -> Job:
        """Wait for a job; one that comes into a cancellation goes to `too_late`."""
        handed = self._handed = asyncio.get_running_loop().create_future()
        freed()
        try:
            return await handed
        except asyncio.CancelledError:
            if handed.done() and not handed.cancelled():
                await too_late(handed.result())
            raise
        finally:
            self._handed = None


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
        retry_s: float = 1.0,
        idle_unload_s: float | None = None,
    ) -> None:
        self._queue = queue
        self._store = store
        self._database = database
        self._check = check
        self._clock = clock
        self._retry_s = retry_s
        self._idle_unload_s = idle_unload_s
        self._members: dict[str, Member] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._moved = asyncio.Event()
        self._running = False
        queue.forecast.slots = lambda: [member.slot for member in self._members.values()]

    @property
    def members(self) -> Mapping[str, Member]:
        """The engines by name, in the order in which they came."""
        return MappingProxyType(self._members)

    @property
    def state(self) -> EngineState:
        """What the engines are doing, as one word."""
        states = {member.engine.state for member in self._members.values()}
        return next((state for state in _RANK if state in states), EngineState.STOPPED)

    async def add(
        self, name: str, engine: Engine, *, node: str = "local", card: str | None = None
    ) -> Member:
        """Take an engine in; it begins to work at once, or when `run` does.

        One of that name from before is replaced. A pause of that name holds, also from the last
        run.
        """
        await self.remove(name)
        member = Member(name, engine, node=node, card=card)
        member.worker = GpuWorker(
            self._queue,
            engine,
            self._store,
            check=self._check,
            clock=self._clock,
            retry_s=self._retry_s,
            idle_unload_s=self._idle_unload_s,
            source=lambda: self._next_for(member),
        )
        rest = await self._database.read(lambda tx: facts.get_fact(tx, _fact(name)))
        with suppress(ValueError):
            member.rest = None if rest is None else Rest(rest)
        self._members[name] = member
        _log.info("engine %s joined (%s)", name, node)
        if self._running:
            self._start(member)
        self._tell()
        return member

    async def remove(self, name: str) -> None:
        """Let an engine go: its job goes back to the queue, and it is closed."""
        member = self._members.pop(name, None)
        if member is None:
            return
        task = self._tasks.pop(name, None)
        self._tell()
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        await member.engine.close()
        _log.info("engine %s left", name)

    async def close(self) -> None:
        """Close every engine. Idempotent."""
        await asyncio.gather(*(member.engine.close() for member in self._members.values()))

    async def run(self) -> None:
        """Hand jobs out until cancelled, which gives the jobs in hand back."""
        await self._store.clear()
        self._running = True
        for member in self._members.values():
            self._start(member)
        handing = asyncio.create_task(self._hand_out(), name="hand-out")
        try:
            while True:
                moved = asyncio.ensure_future(self._move())
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
            working = set(self._tasks.values())
            for task in working:
                task.cancel()
            if working:
                await asyncio.wait(working)
            self._tasks.clear()

    # What admins do

    async def rest(
        self, name: str, rest: Rest | None, *, by: int, guild_id: int | None = None
    ) -> None:
        """Let an engine take no more jobs, or with None take them again; a restart keeps it.

        Raises `InvalidRequest` for a name that is none.
        """
        member = self._member(name)

        async def store(tx: Transaction) -> None:
            await facts.set_fact(tx, _fact(member.name), rest)
            action = "engine_resume" if rest is None else f"engine_{rest}"
            await audit.record(
                tx, self._clock(), actor_id=by, guild_id=guild_id, action=action, target=member.name
            )

        await self._database.write(store)
        member.rest = rest
        member.worker.unload_when_done = rest is Rest.DRAINED
        self._tell()
        if rest is Rest.DRAINED and member.job is None:
            await member.engine.unload()

    async def unload(self) -> tuple[int, int]:
        """Free the cards of all engines that do not draw; return how many were and were not."""
        done = await asyncio.gather(*(m.engine.unload() for m in self._members.values()))
        return sum(done), len(done) - sum(done)

    async def load(self) -> None:
        """Load the model on every engine that takes jobs, one after another.

        Raises `EngineError` of the first that cannot.
        """
        failure: EngineError | None = None
        for member in [m for m in self._members.values() if m.rest is None]:
            try:
                await member.engine.load()
            except EngineError as error:
                _log.warning("engine %s: the model was not loaded: %s", member.name, error.detail)
                failure = failure or error
        if failure is not None:
            raise failure

    # Within

    def _member(self, name: str) -> Member:
        if found := self._members.get(name.strip()):
            return found
        names = ", ".join(self._members) or "-"
        raise InvalidRequest(_("There is no such engine. There are: {names}.").format(names=names))

    def _start(self, member: Member) -> None:
        task = asyncio.create_task(member.worker.run(), name=f"worker-{member.name}")
        self._tasks[member.name] = task

    async def _next_for(self, member: Member) -> Job:
        if member.worker.crashes and len(self._members) > 1:
            # The job that it broke down under goes to another one.
            await asyncio.sleep(min(self._retry_s * 2**member.worker.crashes, RETRY_LIMIT_S))
        return await member.wait(self._tell, self._too_late)

    async def _hand_out(self) -> None:
        while True:
            while not self._free():
                await self._move()
            job = await self._claimed()
            free = self._free()
            if job is None:
                continue
            if free:
                _best(free, job).hand(job)
            else:  # The last free engine was paused, or left, while the job was being claimed.
                await unbroken(self._queue.give_back(job))

    async def _claimed(self) -> Job | None:
        """Return the next job; None when no engine is free any more, or none could be claimed."""
        claim = asyncio.ensure_future(until_stored(self._queue.get, self._retry_s))
        try:
            while not claim.done() and self._free():
                moved = asyncio.ensure_future(self._move())
                try:
                    await asyncio.wait({claim, moved}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    moved.cancel()
        finally:
            # A job that is claimed at this very moment goes back by itself.
            if not claim.done():
                claim.cancel()
                await asyncio.wait({claim})
        if claim.cancelled():
            return None
        if error := claim.exception():
            _log.error("no job could be claimed", exc_info=error)
            await asyncio.sleep(self._retry_s)
            return None
        return claim.result()

    async def _move(self) -> None:
        """Wait until an engine comes, goes, becomes free or is paused."""
        await self._moved.wait()

    def _free(self) -> list[Member]:
        return [member for member in self._members.values() if member.free]

    def _tell(self) -> None:
        """Wake whoever waits for a change of the engines; each waits for the next one."""
        self._moved.set()
        self._moved = asyncio.Event()
        self._queue.refresh()

    async def _too_late(self, job: Job) -> None:
        """Put a job back that was handed to an engine which leaves at that moment."""
        try:
            await unbroken(self._queue.give_back(job))
        except sqlite3.Error:
            _log.exception("job %s: not given back; the next start finds it running", job.id)


def _best(free: list[Member], job: Job) -> Member:
    return min(free, key=lambda member: member.suits(job))


def _fact(name: str) -> str:
    return f"engine:{name}"
