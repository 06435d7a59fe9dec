"""An engine without a model: the whole protocol in this process, with faults on demand."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from bot.engine.protocol import (
    CardUse,
    Ending,
    EngineRequest,
    EngineState,
    Event,
    Finished,
    Loaded,
    Loading,
    Picture,
    Preview,
    Request,
    Step,
    Switched,
    WriteRequest,
    Written,
)
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled
from bot.rules.verdicts import Checked, Verdict

_FATAL = frozenset(
    {
        EngineErrorKind.DIED,
        EngineErrorKind.SILENT,
        EngineErrorKind.GARBLED,
        EngineErrorKind.LOAD_FAILED,
    }
)


@dataclass
class Script:
    """How one attempt goes: normally, or with an error or a pause after a step."""

    error: Exception | None = None
    error_at: int = 0
    hold_at: int | None = None
    """Wait after this step until `ScriptedEngine.release` is set.

    0: before the first step, -1: before a switch to another model.
    """
    busy: bool = False
    """A cancel does not end the wait: it acts when that is over, as with a step that takes long."""
    preview: bytes | None = None
    """A small picture of the unfinished result, sent where it waits."""
    pictures: int | None = None
    """Write only so many."""
    finish: bool = True
    silent_loss: bool = False
    """Delete the pictures that were announced."""
    ending: Ending = Ending.STOPPED
    """Why a text ends."""


def _jpeg() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (32, 32), "grey").save(data, "JPEG")
    return data.getvalue()


PREVIEW = _jpeg()
"""The preview that `ScriptedEngine` sends after the last step."""


class ScriptedCheck:
    """An image check that flags what it is told to: the pictures at these positions, or all."""

    def __init__(self, *positions: int, error: Exception | None = None) -> None:
        self.positions = positions or range(10)
        self.error = error
        self.seen: list[Path] = []
        self.closed = False

    async def look(self, pictures: Sequence[tuple[Path, str]]) -> list[Checked]:
        self.seen += [path for path, _sha256 in pictures]
        if self.error:
            raise self.error
        return [
            Checked(Verdict.FLAGGED, 0.9) if n in self.positions else Checked(Verdict.CLEAR, 0.1)
            for n in range(len(pictures))
        ]

    async def close(self) -> None:
        self.closed = True


def _in_loading(error: Exception | None) -> bool:
    return isinstance(error, EngineError) and (
        error.loading or error.kind is EngineErrorKind.LOAD_FAILED
    )


DESCRIPTION = "CONTENT: a grey square\nENGLISH: a grey square, flat light\nCHINESE: 一个灰色方块"


def written_for(request: WriteRequest) -> str:
    """Return an answer that serves: a prompt with more words, a description, a sentence."""
    if "CONTENT:" in request.system:
        return DESCRIPTION
    if "cannot see" in request.system:
        return "A grey square."
    _, _, prompt = request.prompt.partition(":")
    return f"{prompt.strip()}, in soft light"


class ScriptedEngine:
    """Draws one-coloured PNGs. Each attempt takes the next script; without any, all goes well.

    `holding` is set while an attempt waits, `release` lets it go on. While `load_error` is set, it
    cannot be loaded.
    """

    name = "scripted"

    def __init__(self, *scripts: Script, loaded: bool = True, load_s: float = 7.0) -> None:
        self.scripts = deque(scripts)
        self.state = EngineState.IDLE if loaded else EngineState.STOPPED
        self.load_s = load_s
        self.requests: list[EngineRequest] = []
        self.card_use: CardUse | None = None
        self.asked: list[WriteRequest] = []
        """What it was to write."""
        self.answers: deque[str] = deque()
        """What it writes, one after the other; then what serves every request."""
        self.writing: deque[Script] = deque()
        """How its texts go, as `scripts` are for pictures."""
        self.seen_by_writer: dict[str, list[bytes]] = {}
        """The pictures that texts were written of."""
        self.inputs: dict[str, bytes] = {}
        """The pictures that jobs started from, which are gone once those have ended."""
        self.masks: dict[str, bytes] = {}
        """The masks over them."""
        self.references: dict[str, list[bytes]] = {}
        """The pictures that edits referred to."""
        self.cancels: list[str] = []
        self.holding = asyncio.Event()
        self.release = asyncio.Event()
        self.closed = 0
        self.unloaded = asyncio.Event()
        self.load_error: EngineError | None = None
        self._cancelled = asyncio.Event()
        self._ended = asyncio.Event()
        self._lock = asyncio.Lock()
        self.switch_s: float | None = None
        """How long it says that a switch takes; None: it draws whatever model it is asked for."""
        self.held: str | None = None
        self.loads: str | None = None
        """What it loads where it has none; None: what it is asked for."""

    async def load(self) -> None:
        async with self._lock:
            self._check_load(self.load_error)
            self.held = self.loads or self.held
            self.state = EngineState.IDLE

    async def generate(self, request: Request) -> AsyncIterator[Event]:
        writes = isinstance(request, WriteRequest)
        attempt = self._write(request) if writes else self._attempt(request)
        async with self._lock, aclosing(attempt) as events:
            async for event in events:
                yield event

    async def _write(self, request: WriteRequest) -> AsyncGenerator[Event]:
        """Write the next of `answers`, or what serves every request, in two pieces."""
        script = self.writing.popleft() if self.writing else Script()
        self.asked.append(request)
        self.seen_by_writer[request.job_id] = [
            path.read_bytes() for path in request.references if path.exists()
        ]
        self._cancelled.clear()
        answer = self.answers.popleft() if self.answers else written_for(request)
        self.state = EngineState.BUSY
        timings = {"encode": 0.1, "room": 0.5, "write": 1.0, "back": 0.4, "total": 2.0}
        try:
            stage = "load" if self.held is None else "switch"
            async for event in self._switch(script, request.model):
                yield event
                if isinstance(event, Switched):
                    timings[stage] = event.seconds
            for number, piece in enumerate((answer[:7], answer[7:]), 1):
                if script.error and number == script.error_at + 1:
                    raise script.error
                yield Written(piece, number)
                if number - 1 == script.hold_at:
                    await self._hold(script)
                self._check_open()
                if self._cancelled.is_set():
                    raise GenerationCancelled
            yield Finished(timings, 1234, self.card_use, script.ending)
        except EngineError as error:
            if error.kind in _FATAL:
                self.state = EngineState.STOPPED
            raise
        finally:
            self.closed += 1
            if self.state is EngineState.BUSY:
                self.state = EngineState.IDLE

    def _look_at(self, request: EngineRequest) -> None:
        for path, seen in ((request.input_image, self.inputs), (request.mask, self.masks)):
            if path is not None and path.exists():
                seen[request.job_id] = path.read_bytes()
        self.references[request.job_id] = [
            path.read_bytes() for path in request.references if path.exists()
        ]

    async def _attempt(self, request: EngineRequest) -> AsyncGenerator[Event]:
        script = self.scripts.popleft() if self.scripts else Script()
        self.requests.append(request)
        self._look_at(request)
        self._cancelled.clear()
        try:
            scripted = script.error if _in_loading(script.error) else None
            if self.state is EngineState.STOPPED or scripted:
                self.state = EngineState.LOADING
                yield Loading("reading the weights", 0.5)
                self._check_load(scripted or self.load_error)
                self.held = self.loads or request.model or "scripted"
                yield Loaded(self.held, "cpu", self.load_s, card_use=self.card_use)
            self.state = EngineState.BUSY
            timings = {"encode": 0.5, "denoise": 2.0, "decode": 0.5, "total": 3.0}
            stage = "load" if self.held is None else "switch"
            async for event in self._switch(script, request.model):
                yield event
                if isinstance(event, Switched):
                    timings[stage] = event.seconds
            for step in range(request.steps + 1):
                if step:
                    yield Step(step, request.steps)
                if script.error and step == script.error_at:
                    raise script.error
                if step == script.hold_at:
                    if script.preview:
                        yield Preview(step, script.preview)
                    await self._hold(script)
                self._check_open()
                if self._cancelled.is_set():
                    raise GenerationCancelled
            yield Preview(request.steps, PREVIEW)
            for index, seed in enumerate(request.seeds[: script.pictures]):
                self._check_open()
                picture = self._picture(request, index, seed)
                if script.silent_loss:
                    picture.path.unlink()
                yield picture
            self._check_open()
            if script.finish:
                yield Finished(timings, 1234, self.card_use)
        except EngineError as error:
            if error.kind in _FATAL:
                self.state = EngineState.STOPPED
            raise
        finally:
            self.closed += 1
            if self.state is EngineState.BUSY:
                self.state = EngineState.IDLE
            elif self.state is EngineState.LOADING:
                self.state = EngineState.STOPPED

    async def _switch(self, script: Script, model: str | None) -> AsyncGenerator[Event]:
        if script.hold_at == -1:
            await self._hold(script)
            if self._cancelled.is_set():
                raise GenerationCancelled
        if self.switch_s is None or model == self.held:
            return
        yield Loading("loading the transformer", 0.5)
        failure = script.error
        if isinstance(failure, EngineError) and failure.kind is EngineErrorKind.SWITCH_FAILED:
            self.held = None
            yield Switched(None, self.switch_s)
            raise failure
        self.held = model
        yield Switched(model, self.switch_s)

    async def cancel(self, job_id: str) -> None:
        self.cancels.append(job_id)
        last = [one[-1].job_id for one in (self.requests, self.asked) if one]
        if job_id in last:
            self._cancelled.set()

    async def unload(self) -> bool:
        if self._lock.locked():
            return False
        self.state = EngineState.STOPPED
        self.unloaded.set()
        return True

    async def close(self) -> None:
        self.state = EngineState.STOPPED
        self._ended.set()

    def _check_open(self) -> None:
        if self._ended.is_set():
            raise EngineError(EngineErrorKind.DIED, "the engine is closed")

    def _check_load(self, failure: Exception | None) -> None:
        try:
            self._check_open()
            if failure:
                raise failure
        except EngineError as error:
            self.state = EngineState.STOPPED
            error.loading = True
            raise

    async def _hold(self, script: Script) -> None:
        self.holding.set()
        events = [self.release, self._ended]
        if not script.busy:
            events.append(self._cancelled)
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.holding.clear()
            for wait in waits:
                wait.cancel()

    def _picture(self, request: EngineRequest, index: int, seed: int) -> Picture:
        path = request.output_dir / f"{index}.png"
        info = PngInfo()
        for key, value in request.texts[index].items():
            info.add_itxt(key, value)
        colour = (seed % 256, index, 0)
        picture = Image.new("RGB", (request.width, request.height), colour)
        if request.transparent:  # a disc of half its width, on nothing
            clear = Image.new("L", picture.size)
            quarter = request.width // 4
            ends = (quarter, quarter, 3 * quarter, 3 * quarter)
            ImageDraw.Draw(clear).ellipse(ends, fill=255)
            picture.putalpha(clear)
        picture.save(path, pnginfo=info)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return Picture(index, path, seed, request.width, request.height, sha256)
