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
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled
from bot.words import mark

log = logging.getLogger(__name__)


class ModelLoader:
    """Has the child of `supervisor` load a model with `options`, unless it holds one already.

    `model` is the engine's own: what fails it fails the engine. Another one that does not load is
    told from an engine that loads none by loading the engine's own after it.
    """

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
        self._strange = False
        """Whether a model is being loaded that is not the engine's own."""

    async def ready(self, wanted: str | None = None) -> AsyncGenerator[Event]:
        """Have a child with a loaded model; yield `Loading` and `Loaded` where that is work.

        A child that holds none loads the one that is `wanted` (None: the engine's own); one that
        holds another is left to be switched by the job.

        Raises `EngineError` when it cannot be had, with `loading` set unless a model is to blame
        that is not the engine's own (`SWITCH_FAILED` where that is known), and
        `GenerationCancelled`.
        """
        self._strange = False
        try:
            async for event in self._ready(wanted or self._model):
                yield event
        except EngineError as error:
            error.loading = error.kind is not EngineErrorKind.SWITCH_FAILED and not self._strange
            raise

    async def _ready(self, wanted: str) -> AsyncGenerator[Event]:
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
            link = await self._start(wanted)
        if link.loaded:
            return
        async with supervisor.guard(link):
            if link.loading is None:
                await self._ask(link, wanted)
            async for event in self._loading(link, wanted):
                yield event

    async def _pause(self, seconds: float) -> None:
        await self._cancellation.pause(seconds)
        self._supervisor.check_open()
        if self._cancellation.asked:
            self._supervisor.phase = EngineState.STOPPED
            raise GenerationCancelled

    async def _start(self, wanted: str) -> ChildLink:
        link = await self._supervisor.start()
        if self._cancellation.asked:
            link.inbox.wake()
        try:
            await link.send("init", model=self._model, options=self._options.to_header())
            await self._ask(link, wanted)
        except BaseException:
            await self._supervisor.drop(link)
            raise
        return link

    @staticmethod
    async def _ask(link: ChildLink, model: str) -> None:
        await link.send("load", model=model)
        link.loading = model

    async def _loading(self, link: ChildLink, wanted: str) -> AsyncIterator[Event]:
        started = self._supervisor.phase is EngineState.STARTING
        watch = LoadWatch(self._limits, Activity.START if started else Activity.LOAD)
        refused: EngineError | None = None
        while True:
            watch.check()
            self._strange = link.loading != self._model
            frame = await link.inbox.receive(
                watch.left_s(), watch.activity, whole_limit=watch.limit_s
            )
            watch.note_wait(link.inbox.waited)
            if frame is None:
                if self._cancellation.asked:
                    raise GenerationCancelled  # the child goes on loading, for the next job
                continue
            if frame.type == "load_failed":
                failed, link.loading = link.loading, None
                error = read_failure(EngineErrorKind.LOAD_FAILED, frame)
                if frame.header.get("fatal") or (failed == self._model and refused):
                    self._strange = False
                    raise error
                if failed == wanted:
                    if wanted == self._model:
                        raise error
                    log.warning("%s does not load: %s", wanted, error.detail)
                    refused = error
                await self._ask(link, self._model if refused else wanted)
                watch = LoadWatch(self._limits, Activity.LOAD)
                continue
            watch.begin()
            self._supervisor.phase = EngineState.LOADING
            if frame.type == "hello":
                continue
            event = read_event(frame)
            if isinstance(event, Loaded):
                link.loaded, link.loading = True, None
                self._supervisor.phase = EngineState.IDLE
                yield event
                if refused is not None:
                    raise _not_switched(refused)
                return
            if not isinstance(event, Loading):
                raise FrameError(f"the child sent {frame.type[:40]!r} while loading")
            watch.note(event)
            yield event


def _not_switched(error: EngineError) -> EngineError:
    """Return the failure of a model in an engine that has loaded another one since."""
    return EngineError(
        EngineErrorKind.SWITCH_FAILED, error.detail, sentence=error.template, values=error.values
    )
