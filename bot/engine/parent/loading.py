"""Loading of the model in an engine child: from no child at all to one that is ready to draw."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator

from bot.engine.frames import FrameError
from bot.engine.options import Activity, EngineOptions, SilenceLimits
from bot.engine.parent.cancellation import Cancellation
from bot.engine.parent.link import ChildLink
from bot.engine.parent.supervisor import Supervisor
from bot.engine.parent.watch import LoadWatch
from bot.engine.protocol import EngineState, Event, Loaded, Loading
from bot.engine.wire import read_event, read_failure
from bot.errors import EngineErrorKind, GenerationCancelled
from bot.words import mark

log = logging.getLogger(__name__)


class ModelLoader:
    """Has the child of `supervisor` load `model` with `options`, unless it has done so already."""

    def __init__(
        self,
        supervisor: Supervisor,
        model: str,
        options: EngineOptions,
        limits: SilenceLimits,
        cancellation: Cancellation,
    ) -> None:
        self._supervisor = supervisor
        self._model = model
        self._options = options
        self._limits = limits
        self._cancellation = cancellation

    async def ready(self) -> AsyncGenerator[Event]:
        """Have a child with a loaded model; yield `Loading` and `Loaded` where that is work.

        Raises `EngineError` when it cannot be had, and `GenerationCancelled`.
        """
        supervisor = self._supervisor
        link = supervisor.link
        if link is not None and (link.inbox.ended or (link.loaded and link.inbox.take_unread())):
            log.warning("the engine child %d ended or spoke out of turn while idle", link.pid)
            await supervisor.fail(link)
            link = None
        if link is None:
            supervisor.check_open()
            if (wait := supervisor.wait_s()) > 0:
                supervisor.phase = EngineState.BACKOFF
                yield Loading(mark("restarting"))
                await self._pause(wait)
            link = await self._start()
        if link.loaded:
            return
        async with supervisor.guard(link):
            async for event in self._loading(link):
                yield event

    async def _pause(self, seconds: float) -> None:
        await self._cancellation.pause(seconds)
        self._supervisor.check_open()
        if self._cancellation.asked:
            self._supervisor.phase = EngineState.STOPPED
            raise GenerationCancelled

    async def _start(self) -> ChildLink:
        link = await self._supervisor.start()
        if self._cancellation.asked:
            link.inbox.wake()
        try:
            await link.send("init", model=self._model, options=self._options.to_header())
            await link.send("load")
        except BaseException:
            await self._supervisor.drop(link)
            raise
        return link

    async def _loading(self, link: ChildLink) -> AsyncIterator[Event]:
        started = self._supervisor.phase is EngineState.STARTING
        watch = LoadWatch(self._limits, Activity.START if started else Activity.LOAD)
        while True:
            watch.check()
            frame = await link.inbox.receive(
                watch.left_s(), watch.activity, whole_limit=watch.limit_s
            )
            watch.note_wait(link.inbox.waited)
            if frame is None:
                if self._cancellation.asked:
                    raise GenerationCancelled  # the child goes on loading, for the next job
                continue
            if frame.type == "load_failed":
                raise read_failure(EngineErrorKind.LOAD_FAILED, frame)
            watch.begin()
            self._supervisor.phase = EngineState.LOADING
            if frame.type == "hello":
                continue
            event = read_event(frame)
            if isinstance(event, Loaded):
                link.loaded = True
                self._supervisor.phase = EngineState.IDLE
                yield event
                return
            if not isinstance(event, Loading):
                raise FrameError(f"the child sent {frame.type[:40]!r} while loading")
            watch.note(event)
            yield event
