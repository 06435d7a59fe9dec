"""The conversation with an engine child about one job: the request, its events, its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from bot.engine.frames import Frame
from bot.engine.options import Activity, SilenceLimits
from bot.engine.parent.cancellation import Cancellation
from bot.engine.parent.output_check import OutputCheck
from bot.engine.parent.supervisor import Supervisor
from bot.engine.parent.watch import JobWatch
from bot.engine.protocol import Compiling, EngineState, Event, Finished, Request
from bot.engine.wire import message_of, read_event, read_failure
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled

_TOO_LONG: Final = frozenset({EngineErrorKind.SILENT, EngineErrorKind.OVERTIME})


class BrokenBefore(Exception):
    """The child was dead or spoke out of turn before the job began: not the job's fault."""

    def __init__(self, cause: EngineError) -> None:
        super().__init__(cause.detail)
        self.cause = cause


class Conversation:
    """One attempt at `request` with the loaded child of `supervisor`.

    Raises `EngineError` (`DIED`) once the engine is closed.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        request: Request,
        limits: SilenceLimits,
        cancellation: Cancellation,
    ) -> None:
        self._supervisor = supervisor
        self._link = supervisor.held()
        self._request = request
        self._limits = limits
        self._cancellation = cancellation
        self._watch = JobWatch(request, limits)

    async def events(self) -> AsyncGenerator[Event]:
        """Have the job done; yield what `Engine.generate` does once the model is loaded.

        Raises `EngineError`, `GenerationCancelled`, and `BrokenBefore` when another child may do
        better. The child is at rest afterwards, or dead. One that is found to have died by itself
        when the caller stops is an `EngineError` (`DIED`) too, in the place of the cancellation.
        """
        supervisor, link, request = self._supervisor, self._link, self._request
        if self._cancellation.asked:
            raise GenerationCancelled
        supervisor.phase = EngineState.BUSY
        settled = begun = False
        try:
            async with supervisor.guard(link):
                link.log.take_up(request.job_id, *request.secrets)
                await self._send()
                check = OutputCheck(request)
                while True:
                    frame = await self._hear(begun=begun)
                    if frame is None:
                        continue
                    begun = True
                    if frame.type == "stage":
                        activity = Activity(frame.header.get("activity"))
                        begins = activity is not self._watch.activity
                        self._watch.note_activity(activity)
                        if begins and activity is Activity.COMPILE:
                            yield Compiling()
                        continue
                    if frame.type == "cancelled":
                        settled = True
                        raise GenerationCancelled
                    if frame.type == "failed":
                        settled = True
                        raise await self._failure(frame)
                    event = await check.event(read_event(frame))
                    self._watch.note(event)
                    if isinstance(event, Finished):
                        settled = True
                        supervisor.succeed()
                        yield event
                        return
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            # The kernel may have killed the child for its memory, and a service manager stops the
            # bot because of that: such a job would come back as if nothing had happened.
            if not settled:
                settled = True
                end = await self._calm()
                if end is not None and begun:
                    raise EngineError(end.kind, end.detail) from None
            raise
        finally:
            if not settled and not link.inbox.ended:
                await self._calm()
            if supervisor.phase is EngineState.BUSY:
                supervisor.phase = EngineState.IDLE

    async def _send(self) -> None:
        """Send what is to be done; a child that does not read it is silent too."""
        limit = self._limits.of(Activity.ENCODE)
        kind, fields = message_of(self._request)
        try:
            async with self._cancellation.sending(limit):
                await self._link.send(kind, **fields)
        except TimeoutError:
            raise EngineError(
                EngineErrorKind.SILENT, f"the child did not read its job for {limit:g} s at most"
            ) from None

    async def _hear(self, *, begun: bool) -> Frame | None:
        """Return the job's next message, or None; a child that is broken before any is replaced."""
        try:
            frame = await self._receive()
            self._check(frame)
        except EngineError as error:
            if begun or error.kind in _TOO_LONG:
                raise
            await self._supervisor.fail(self._link)
            raise BrokenBefore(error) from error
        return frame

    async def _receive(self) -> Frame | None:
        watch, inbox = self._watch, self._link.inbox
        watch.check()
        left = self._cancellation.shortened(min(watch.silence_left_s(), watch.left_s()))
        limit = self._cancellation.shortened(watch.silence_limit_s)
        try:
            frame = await inbox.receive(left, watch.activity, whole_limit=limit)
        except EngineError as error:
            if error.kind is EngineErrorKind.SILENT:
                watch.note_wait(inbox.waited)
                watch.check()
            raise
        watch.note_wait(inbox.waited)
        return frame

    def _check(self, frame: Frame | None) -> None:
        if frame is not None and frame.header.get("job") != self._request.job_id:
            raise EngineError(
                EngineErrorKind.GARBLED, f"the child sent {frame.type[:40]!r} for another job"
            )

    async def _failure(self, frame: Frame) -> EngineError:
        header = frame.header
        if header.get("fatal"):
            await self._supervisor.fail(self._link)
        error = read_failure(EngineErrorKind(header.get("kind")), frame)
        error.detail = self._link.log.redacted(error.detail)
        return error

    async def _calm(self) -> EngineError | None:
        """Stop the work of a job whose consumer has left; kill the child if it doesn't obey.

        Return its end where it was found dead.
        """
        link = self._link
        left = self._limits.obey
        end: EngineError | None = None
        try:
            async with asyncio.timeout(left):
                await link.send("cancel", job=self._request.job_id)
            while left > 0:
                frame = await link.inbox.receive(left, "stopping")
                left -= link.inbox.waited
                if frame is not None and frame.type in {"cancelled", "finished", "failed"}:
                    if frame.header.get("fatal"):
                        break
                    return None
        except EngineError as error:
            end = error if error.kind is EngineErrorKind.DIED else None
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            await self._supervisor.drop(link)
            raise
        await self._supervisor.drop(link)
        return end
