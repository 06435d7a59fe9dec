"""The engine as the bot sees it: a child process that is started, fed, watched and replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import aclosing

from bot.engine.faults import HARMLESS
from bot.engine.frames import Frame, FrameError
from bot.engine.options import Activity, Backoff, EngineOptions, SilenceLimits
from bot.engine.parent.environment import child_environment
from bot.engine.parent.link import ChildLink
from bot.engine.parent.output_check import check_event
from bot.engine.parent.pipe import PipeLink, own_command
from bot.engine.protocol import (
    EngineRequest,
    EngineState,
    Event,
    Finished,
    Loaded,
    Loading,
)
from bot.engine.wire import read_event, read_failure, request_fields
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled
from bot.words import mark

log = logging.getLogger(__name__)
_COMMAND = (sys.executable, "-m", "bot.engine.child")
_CLOSE_PATIENCE_S = 2.0


class _BrokenBefore(Exception):
    """The child was dead or spoke out of turn before the job began: not the job's fault."""

    def __init__(self, cause: EngineError) -> None:
        super().__init__(cause.detail)
        self.cause = cause


class EngineProcess:
    """An `Engine` in a child process of its own; imports no torch.

    The model is loaded on the first job. A child that dies, falls silent or breaks the protocol is
    killed and replaced: at once the first time, after a growing wait when that goes on. An ordinary
    exception in the pipeline, or a lack of memory, leaves the child alive. `connect` starts the
    child elsewhere than in a process below this one; it raises `EngineError` or `OSError`.
    """

    def __init__(
        self,
        model: str,
        *,
        options: EngineOptions,
        environment: Mapping[str, str] | None = None,
        limits: SilenceLimits | None = None,
        backoff: Backoff | None = None,
        command: Sequence[str] | None = None,
        connect: Callable[[], Awaitable[ChildLink]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._options = options
        # Beside what the child gets of this process's environment, or instead of it.
        self._environment = dict(environment or {})
        self._limits = limits or SilenceLimits()
        self._backoff = backoff or Backoff()
        self._connect = connect or self._spawn
        self._command = own_command(_COMMAND if command is None else command)
        self._clock = clock
        self._lock = asyncio.Lock()
        self._link: ChildLink | None = None
        self._phase = EngineState.STOPPED
        self._job: str | None = None
        self._cancel = asyncio.Event()
        self._cancel_by: float | None = None
        self._sending: asyncio.Timeout | None = None
        self._failures = 0
        self._failed_at = 0.0
        self._closed = False

    @property
    def name(self) -> str:
        """See `Engine`."""
        return self._model

    @property
    def state(self) -> EngineState:
        """See `Engine`."""
        if self._phase is EngineState.IDLE and (self._link is None or self._link.inbox.ended):
            return EngineState.STOPPED
        return self._phase

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is a child."""
        return None if self._link is None else self._link.pid

    async def load(self) -> None:
        """See `Engine`."""
        async with self._lock, aclosing(self._ready()) as events:
            async for _ in events:
                pass

    async def generate(self, request: EngineRequest) -> AsyncIterator[Event]:
        """See `Engine`."""
        async with self._lock:
            self._job = request.job_id
            self._cancel.clear()
            self._cancel_by = None
            try:
                while True:
                    fresh = False
                    try:
                        async with aclosing(self._ready()) as events:
                            async for event in events:
                                fresh = fresh or isinstance(event, Loaded)
                                yield event
                    except EngineError as error:
                        error.loading = True
                        raise
                    try:
                        async with aclosing(self._draw(request)) as events:
                            async for event in events:
                                yield event
                    except _BrokenBefore as error:
                        # A new child that breaks before its first job would do so again.
                        if fresh:
                            raise error.cause from None
                    else:
                        return
            finally:
                self._job = None
                self._cancel.clear()

    async def cancel(self, job_id: str) -> None:
        """See `Engine`. A job that still waits for the model ends without it."""
        if job_id != self._job or self._cancel.is_set():
            return
        self._cancel.set()
        self._cancel_by = self._clock() + self._limits.cancel
        if self._link is not None:
            self._link.inbox.wake()
            if self._phase is EngineState.BUSY:
                if self._sending is not None:  # It has not heard of the job yet.
                    by = asyncio.get_running_loop().time() + self._limits.cancel
                    self._sending.reschedule(min(by, self._sending.when() or by))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._limits.cancel):
                        await self._link.send("cancel", job=job_id)

    async def unload(self) -> bool:
        """See `Engine`. The child ends: a process that is gone holds no memory at all."""
        if self._lock.locked():
            return False
        async with self._lock:
            self._phase = EngineState.STOPPED
            if (link := self._link) is not None:
                try:
                    await link.close(_CLOSE_PATIENCE_S)
                finally:  # Until then `close` has to find it.
                    if self._link is link:
                        self._link = None
        return True

    async def close(self) -> None:
        """See `Engine`."""
        self._closed = True
        self._cancel.set()  # for whoever waits in `_pause`
        link, self._link = self._link, None
        self._phase = EngineState.STOPPED
        if link is not None:
            await link.close(_CLOSE_PATIENCE_S)

    async def _ready(self) -> AsyncGenerator[Event]:
        """Have a child with a loaded model."""
        link = self._link
        if link is not None and (link.inbox.ended or (link.loaded and link.inbox.take_unread())):
            log.warning("the engine child %d ended or spoke out of turn while idle", link.pid)
            await self._fail(link)
            link = None
        if link is None:
            self._check_open()
            if (wait := self._wait_s()) > 0:
                self._phase = EngineState.BACKOFF
                yield Loading(mark("restarting"))
                await self._pause(wait)
            link = await self._start()
        if link.loaded:
            return
        async with self._guard(link):
            async for event in self._loading(link):
                yield event

    def _wait_s(self) -> float:
        return self._failed_at + self._backoff.delay(self._failures) - self._clock()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._cancel.wait()
        self._check_open()
        if self._cancel.is_set():
            self._phase = EngineState.STOPPED
            raise GenerationCancelled

    async def _start(self) -> ChildLink:
        self._check_open()
        self._phase = EngineState.STARTING
        try:
            link = await self._connect()
        except OSError as error:
            self._note_failure()
            raise EngineError(EngineErrorKind.LOAD_FAILED, f"cannot start: {error}") from error
        except EngineError:
            self._note_failure()
            raise
        if self._closed:
            await link.kill()
            self._check_open()
        self._link = link
        if self._cancel.is_set():
            link.inbox.wake()
        try:
            await link.send("init", model=self._model, options=self._options.to_header())
            await link.send("load")
        except BaseException:
            await self._drop(link)
            raise
        return link

    async def _spawn(self) -> ChildLink:
        return await PipeLink.start(self._command, child_environment() | self._environment)

    def _check_open(self) -> None:
        if self._closed:
            self._phase = EngineState.STOPPED
            raise EngineError(EngineErrorKind.DIED, "the engine is closed")

    async def _loading(self, link: ChildLink) -> AsyncIterator[Event]:
        activity = Activity.START if self._phase is EngineState.STARTING else Activity.LOAD
        while True:
            frame = await link.inbox.receive(self._limits.of(activity), activity)
            if frame is None:
                if self._cancel.is_set():
                    raise GenerationCancelled  # the child goes on loading, for the next job
                continue
            if frame.type == "load_failed":
                raise read_failure(EngineErrorKind.LOAD_FAILED, frame)
            activity = Activity.LOAD
            self._phase = EngineState.LOADING
            if frame.type == "hello":
                continue
            event = read_event(frame)
            if isinstance(event, Loaded):
                link.loaded = True
                self._phase = EngineState.IDLE
                yield event
                return
            if not isinstance(event, Loading):
                raise FrameError(f"the child sent {frame.type[:40]!r} while loading")
            yield event

    async def _draw(self, request: EngineRequest) -> AsyncGenerator[Event]:
        self._check_open()
        link = self._link
        assert link is not None
        if self._cancel.is_set():
            raise GenerationCancelled
        self._phase = EngineState.BUSY
        settled = False
        try:
            async with self._guard(link):
                link.log.take_up(request.job_id, request.prompt, request.negative_prompt)
                await self._send_job(link, request)
                activity, begun = Activity.ENCODE, False
                seen: set[int] = set()
                while True:
                    try:
                        frame = await self._hear(link, request.job_id, activity)
                    except EngineError as error:
                        if begun or error.kind is EngineErrorKind.SILENT:
                            raise
                        await self._fail(link)
                        raise _BrokenBefore(error) from error
                    if frame is None:
                        continue
                    begun = True
                    if frame.type == "stage":
                        activity = Activity(frame.header.get("activity"))
                        continue
                    if frame.type == "cancelled":
                        settled = True
                        raise GenerationCancelled
                    if frame.type == "failed":
                        settled = True
                        raise await self._failure(link, frame)
                    event = read_event(frame)
                    await check_event(event, request, seen)
                    if isinstance(event, Finished):
                        settled = True
                        self._failures = 0
                        self._phase = EngineState.IDLE
                        yield event
                        return
                    yield event
        finally:
            if not settled and not link.inbox.ended:
                await self._calm(link, request.job_id)
            if self._phase is EngineState.BUSY:
                self._phase = EngineState.IDLE

    async def _send_job(self, link: ChildLink, request: EngineRequest) -> None:
        """Send what is to be drawn; a child that does not read it is silent too."""
        limit = self._limits.of(Activity.ENCODE)
        try:
            async with asyncio.timeout(limit) as self._sending:
                await link.send("generate", **request_fields(request))
        except TimeoutError:
            raise EngineError(
                EngineErrorKind.SILENT, f"the child did not read its job for {limit:g} s at most"
            ) from None
        finally:
            self._sending = None

    async def _hear(self, link: ChildLink, job: str, activity: Activity) -> Frame | None:
        limit = self._limits.of(activity)
        if self._cancel_by is not None:
            limit = max(0.0, min(limit, self._cancel_by - self._clock()))
        frame = await link.inbox.receive(limit, activity)
        if frame is not None and frame.header.get("job") != job:
            raise EngineError(
                EngineErrorKind.GARBLED, f"the child sent {frame.type[:40]!r} for another job"
            )
        return frame

    async def _failure(self, link: ChildLink, frame: Frame) -> EngineError:
        header = frame.header
        if header.get("fatal"):
            await self._fail(link)
        error = read_failure(EngineErrorKind(header.get("kind")), frame)
        error.detail = link.log.redacted(error.detail)
        return error

    async def _calm(self, link: ChildLink, job: str) -> None:
        """Stop the work of a job whose consumer has left; kill the child if it doesn't obey."""
        try:
            async with asyncio.timeout(self._limits.obey):
                await link.send("cancel", job=job)
                while True:
                    frame = await link.inbox.receive(self._limits.obey, "stopping")
                    if frame is not None and frame.type in {"cancelled", "finished", "failed"}:
                        if frame.header.get("fatal"):
                            break
                        return
        except (TimeoutError, EngineError):
            pass
        except asyncio.CancelledError:
            await self._drop(link)
            raise
        await self._drop(link)

    @contextlib.asynccontextmanager
    async def _guard(self, link: ChildLink) -> AsyncGenerator[None]:
        """Kill the child on everything that makes it unusable."""
        try:
            yield
        except (FrameError, ValueError) as error:
            await self._fail(link)
            raise EngineError(EngineErrorKind.GARBLED, str(error)) from error
        except EngineError as error:
            if error.kind not in HARMLESS:
                await self._fail(link)
            raise

    async def _fail(self, link: ChildLink) -> None:
        self._note_failure()
        await self._drop(link)

    def _note_failure(self) -> None:
        self._failures += 1
        self._failed_at = self._clock()
        self._phase = EngineState.STOPPED

    async def _drop(self, link: ChildLink) -> None:
        if self._link is link:
            self._link = None
        self._phase = EngineState.STOPPED
        await link.kill()
