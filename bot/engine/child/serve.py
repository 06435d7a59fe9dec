"""The engine child's loop: it reads requests, runs the backend and writes what happens.

The main thread draws. A second thread reads the parent's messages, so that a cancel is known
between two steps; a third one sends heartbeats. The process ends when the parent closes the pipe.
"""

from __future__ import annotations

import importlib
import os
import queue
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from bot.engine.child.backend import Backend
from bot.engine.child.confined import confine_engine
from bot.engine.child.control_tokens import without_control_tokens, without_control_words
from bot.engine.child.png import save_png, with_precision
from bot.engine.faults import Fault, account_of, diagnose, free_memory
from bot.engine.frames import Frame, FrameError, encode, read_frame_blocking
from bot.engine.options import Activity, EngineOptions
from bot.engine.protocol import CardUse, EngineRequest, Request, WriteRequest
from bot.engine.wire import GENERATE, WRITE, read_request, read_write_request
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled
from bot.logs.redact import Redactor
from bot.words import mark

HEARTBEAT_S: Final = 2.0
PIECE_S: Final = 0.1
"""Seconds for which pieces of a text are gathered."""


class Channel:
    """The way to the parent, shared by the child's threads."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, kind: str, /, tail: bytes = b"", **fields: Any) -> None:
        """Send a message; end the process when nobody reads any longer."""
        self.write(encode(Frame({"type": kind, **fields}, tail)))

    def write(self, data: bytes) -> None:
        """Write bytes as they are."""
        view = memoryview(data)
        with self._lock:
            try:
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError:
                os._exit(0)


class JobReport:
    """The `Reporter` of one job."""

    def __init__(self, channel: Channel, job: str, cancelled: set[str]) -> None:
        self.channel = channel
        self.job = job
        self._cancelled = cancelled
        self._text, self._tokens = "", 0
        self._told = time.monotonic()

    def _check(self) -> None:
        if self.job in self._cancelled:
            raise GenerationCancelled

    def loading(self, stage: str, fraction: float | None = None) -> None:
        """See `Reporter`; also of the model that the engine is switched to."""
        self.channel.send("loading", job=self.job, stage=stage, fraction=fraction)
        self._check()

    def stage(self, activity: Activity) -> None:
        """See `Reporter`."""
        self.channel.send("stage", job=self.job, activity=activity.value)
        self._check()

    def step(self, index: int, total: int) -> None:
        """See `Reporter`."""
        self.channel.send("step", job=self.job, index=index, total=total)
        self._check()

    def preview(self, step: int, data: bytes) -> None:
        """See `Reporter`."""
        self.channel.send("preview", job=self.job, step=step, tail=data)
        self._check()

    def written(self, text: str, tokens: int) -> None:
        """See `Reporter`. Pieces are gathered, so that the pipe has few messages a second."""
        self._text += text
        self._tokens = tokens
        now = time.monotonic()
        if now - self._told >= PIECE_S:
            self._told = now
            self.flush()
        self._check()

    def flush(self) -> None:
        """Send what was gathered of a text."""
        if self._tokens:
            self.channel.send("written", job=self.job, text=self._text, tokens=self._tokens)
        self._text, self._tokens = "", 0


_Work = Callable[[JobReport, defaultdict[str, float]], dict[str, Any]]
"""What a job consists of; it adds to its timings and returns other fields of `finished`."""


class Server:
    """Answers the parent's `load`, `generate` and `write` messages."""

    def __init__(self, channel: Channel, init: Frame, started: float) -> None:
        self._channel = channel
        self._started = started
        self._model = str(init.header["model"])
        self._held: str | None = None
        self._options = EngineOptions.from_header(init.header["options"])
        self._backend: Backend | None = None
        self._inbox: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._cancelled: set[str] = set()
        self._refused: EngineError | None = None

    def confine(self) -> None:
        """Limit what this process may do, before it has a second thread; see `Server._load`."""
        try:
            confine_engine(self._model, self._options)
        except EngineError as error:
            self._refused = error

    def listen(self, stream: Any) -> None:
        """Read the parent's messages until it is gone (a thread's target)."""
        try:
            while (frame := read_frame_blocking(stream)) is not None:
                if frame.type == "cancel":
                    self._cancelled.add(frame.header["job"])
                    continue
                # In order of arrival: a cancel of an earlier attempt is not meant for this one.
                self._cancelled.discard(frame.header.get("job", ""))
                self._inbox.put(frame)
        except (FrameError, OSError):
            pass
        os._exit(0)

    def beat(self) -> None:
        """Send heartbeats forever (a thread's target)."""
        while True:
            self._channel.send("heartbeat")
            time.sleep(HEARTBEAT_S)

    def run(self) -> None:
        """Answer messages in order, forever."""
        while True:
            frame = self._inbox.get()
            if frame.type == "load":
                self._load(str(frame.header.get("model", self._model)))
                continue
            fault: Fault | None = None
            if frame.type == GENERATE:
                drawing = read_request(frame.header)
                fault = self._attempt(drawing, self._drawn(drawing))
            elif frame.type == WRITE:
                writing = read_write_request(frame.header)
                fault = self._attempt(writing, self._written(writing))
            if fault is not None:
                self._fail(str(frame.header["job"]), fault)

    def _load(self, model: str) -> None:
        def progress(stage: str, fraction: float | None = None) -> None:
            self._channel.send("loading", stage=stage, fraction=fraction)

        try:
            module, _, attribute = self._options.pipeline.partition(":")
            progress(mark("starting"))
            self._check()
            backend: Backend = getattr(importlib.import_module(module), attribute)(
                model, self._options
            )
            info = backend.load(progress)
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
            sys.stderr.write(account_of(error))
            fault = diagnose(error)
            self._channel.send(
                "load_failed",
                detail=fault.detail,
                sentence=fault.sentence,
                values=fault.values,
                fatal=fault.fatal,
            )
            return
        self._backend, self._held = backend, model
        self._channel.send(
            "loaded",
            model=info.model,
            device=info.device,
            seconds=time.monotonic() - self._started,
            imports_s=info.imports_s,
            card_use=info.card_use and asdict(info.card_use),
        )

    def _check(self) -> None:
        """Raise `EngineError` where the process could not be confined as it must be."""
        if self._refused is not None:
            raise self._refused

    def _attempt(self, request: Request, work: _Work) -> Fault | None:
        """Do a job and tell its end, unless it failed: then return what is to be told."""
        report = JobReport(self._channel, request.job_id, self._cancelled)
        timings: defaultdict[str, float] = defaultdict(float)
        started = time.perf_counter()
        try:
            timings |= self._switched(request.model or self._model, report)
            report.stage(Activity.ENCODE)
            end = work(report, timings)
        except GenerationCancelled:
            self._channel.send("cancelled", job=request.job_id)
            return None
        except Exception as error:  # noqa: BLE001 - one bad job must not end the child
            sys.stderr.write(Redactor(request.secrets)(account_of(error)))
            return diagnose(error, secret=request.prompt)
        timings["total"] = time.perf_counter() - started
        self._channel.send("finished", job=request.job_id, timings=dict(timings), **end)
        return None

    def _drawn(self, request: EngineRequest) -> _Work:
        def work(report: JobReport, timings: defaultdict[str, float]) -> dict[str, Any]:
            assert self._backend is not None
            peak: int | None = None
            card_use: CardUse | None = None
            for index, drawn in enumerate(
                self._backend.generate(without_control_tokens(request), report)
            ):
                report.stage(Activity.SAVE)
                path = request.output_dir / f"{index}.png"
                saving = time.perf_counter()
                use = drawn.card_use
                texts = with_precision(request.texts[index], use.precision if use else None)
                save_png(drawn.image, path, texts)
                for stage, seconds in drawn.timings.items():
                    timings[stage] += seconds
                timings["save"] += time.perf_counter() - saving
                peak = max(filter(None, (peak, drawn.peak_gpu_bytes)), default=None)
                card_use = drawn.card_use
                self._channel.send(
                    "picture",
                    job=request.job_id,
                    index=index,
                    path=str(path),
                    seed=request.seeds[index],
                    width=drawn.image.width,
                    height=drawn.image.height,
                )
            return {"peak_gpu_bytes": peak, "card_use": card_use and asdict(card_use)}

        return work

    def _written(self, request: WriteRequest) -> _Work:
        def work(report: JobReport, timings: defaultdict[str, float]) -> dict[str, Any]:
            assert self._backend is not None
            answer = self._backend.write(without_control_words(request), report)
            report.flush()
            for stage, seconds in answer.timings.items():
                timings[stage] += seconds
            use = answer.card_use
            return {
                "peak_gpu_bytes": answer.peak_gpu_bytes,
                "card_use": use and asdict(use),
                "ending": answer.ending.value,
            }

        return work

    def _switched(self, model: str, report: JobReport) -> dict[str, float]:
        """Have `model` loaded; return the seconds of that, by the name of the stage.

        Raises `GenerationCancelled`, and `EngineError` (`SWITCH_FAILED`) unless the card itself has
        failed.
        """
        assert self._backend is not None
        if model == self._held:
            return {}
        # Where none is held, an earlier switch failed: loading is nobody's.
        stage = "load" if self._held is None else "switch"
        report.stage(Activity.SWITCH)
        started = time.perf_counter()
        try:
            self._backend.switch(model, report.loading)
        except GenerationCancelled:
            raise
        except Exception as error:
            if (fault := diagnose(error)).fatal:
                raise
            raise EngineError(
                EngineErrorKind.SWITCH_FAILED,
                f"{model}: {fault.detail}",
                sentence=fault.sentence,
                values=fault.values,
            ) from error
        finally:
            self._held = self._backend.held
            seconds = time.perf_counter() - started
            self._channel.send("switched", job=report.job, model=self._held, seconds=seconds)
        return {stage: seconds}

    def _fail(self, job: str, fault: Fault) -> None:
        # The exception and its frames are gone by now, and with them the tensors they held.
        if not fault.fatal:
            free_memory()
        self._channel.send(
            "failed",
            job=job,
            kind=fault.kind.value,
            detail=fault.detail,
            sentence=fault.sentence,
            values=fault.values,
            fatal=fault.fatal,
        )
        if fault.fatal:
            os._exit(70)


def serve(frames_in: int, frames_out: int, started: float) -> None:
    """Serve the parent on two descriptors; the process began at `started` (monotonic seconds)."""
    stream = os.fdopen(frames_in, "rb")
    init = read_frame_blocking(stream)
    if init is None:
        return
    channel = Channel(frames_out)
    server = Server(channel, init, started)
    server.confine()
    channel.send("hello", pid=os.getpid())
    threading.Thread(target=server.listen, args=(stream,), name="listen", daemon=True).start()
    threading.Thread(target=server.beat, name="heartbeat", daemon=True).start()
    server.run()
