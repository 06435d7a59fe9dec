"""Downloads of a model's files beside an engine: `python -m bot.engine.files.fetcher PARENT_PID`.

An engine that is confined reaches no network and cannot write its model's files. So it starts this
process before that, if files are missing, and has it download when it comes to that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, BinaryIO, Final, Self, cast

from bot.engine.files.find import cached_precision, ensure_for, find
from bot.engine.frames import Frame, FrameError, encode, read_frame_blocking
from bot.engine.options import EngineOptions, LoadProgress
from bot.errors import EngineError, EngineErrorKind

_COMMAND: Final = (sys.executable, "-m", "bot.engine.files.fetcher")


class Fetch:
    """A process that downloads a model each time `run` is called, and ends with its starter."""

    def __init__(self, process: subprocess.Popen[bytes], options: EngineOptions) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._options = options
        self._busy = False
        self._sent = process.stdin
        self._heard = cast("BinaryIO", process.stdout)

    @classmethod
    def start(cls, models: Iterable[str], options: EngineOptions) -> Self | None:
        """Start a process for what is missing of published models; None if nothing is.

        To be called on the main thread: the kernel ends the process when that ends.
        """
        if all(_there(model, options) for model in models):
            return None
        process = subprocess.Popen(  # noqa: S603 - this very program
            [*_COMMAND, str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return cls(process, options)

    def run(self, model: str, progress: LoadProgress) -> None:
        """Have a model's files downloaded; raise `EngineError` (`LOAD_FAILED`) if they cannot be.

        Where `progress` raises, the download goes on for the next call. A process that ends without
        a word is left to whoever looks for the files next.
        """
        if self._busy:
            with suppress(EngineError):  # It may be another model's, and is asked for again.
                self._follow(progress)
        fields = {"model": model, "options": self._options.to_header()}
        with suppress(OSError, ValueError):  # ValueError: it has ended, and the pipe is closed.
            self._sent.write(encode(Frame({"type": "fetch", **fields})))
            self._sent.flush()
            self._busy = True
            self._follow(progress)

    def _follow(self, progress: LoadProgress) -> None:
        """Pass on what the process says, until it has done what it was asked for or has ended."""
        try:
            while (frame := read_frame_blocking(self._heard)) is not None:
                header = frame.header
                if frame.type == "failed":
                    self._busy = False
                    raise EngineError(
                        EngineErrorKind.LOAD_FAILED,
                        header["detail"],
                        sentence=header["sentence"],
                        values=header["values"],
                    )
                if frame.type == "fetched":
                    self._busy = False
                    return
                progress(header["stage"], header["fraction"])
        except FrameError:
            pass
        self._end()

    def _end(self) -> None:
        self._busy = False
        self._process.kill()
        with suppress(OSError):
            self._sent.close()
        self._heard.close()
        self._process.wait()


def _there(model: str, options: EngineOptions) -> bool:
    root, offload = options.model_path, options.offload
    precision = cached_precision(root, model, offload, options.precision)
    return find(options.model_path, model, precision)[0] is not None


def main() -> None:
    """Download what is asked for, one model after another, and tell how far it is."""
    from bot.engine.pipes import take_pipes  # noqa: PLC0415

    frames_in, frames_out = take_pipes()
    from bot.engine.lifeline import die_with_parent, leave_signals_to_parent  # noqa: PLC0415

    leave_signals_to_parent()
    die_with_parent(int(sys.argv[1]))
    with os.fdopen(frames_in, "rb") as requests, os.fdopen(frames_out, "wb") as answers:
        while (request := read_frame_blocking(requests)) is not None:
            _fetch(request, answers)


def _fetch(request: Frame, answers: BinaryIO) -> None:
    def send(kind: str, **fields: Any) -> None:
        answers.write(encode(Frame({"type": kind, **fields})))
        answers.flush()

    def progress(stage: str, fraction: float | None) -> None:
        send("loading", stage=stage, fraction=fraction)

    options = EngineOptions.from_header(request.header["options"])
    model: str = request.header["model"]
    try:
        ensure_for(model, options, progress)
    except EngineError as error:
        send("failed", detail=error.detail, sentence=error.template, values=error.values)
    else:
        send("fetched")


if __name__ == "__main__":
    main()
