"""Downloads of a model's files beside an engine: `python -m bot.engine.files.fetcher PARENT_PID`.

An engine that is confined reaches no network and cannot write its model's files. So it starts this
process before that, if files are missing, and has it download when it comes to that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from typing import Any, BinaryIO, Final, Self, cast

from bot.engine.files.find import cached_precision, ensure, find
from bot.engine.frames import Frame, FrameError, encode, read_frame_blocking
from bot.engine.options import EngineOptions, LoadProgress
from bot.errors import EngineError, EngineErrorKind

_COMMAND: Final = (sys.executable, "-m", "bot.engine.files.fetcher")


class Fetch:
    """A process that downloads once `run` is called, and ends with the one that started it."""

    def __init__(self, process: subprocess.Popen[bytes], request: Frame) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._request = request
        self._sent = process.stdin
        self._heard = cast("BinaryIO", process.stdout)

    @classmethod
    def start(cls, model: str, options: EngineOptions) -> Self | None:
        """Start a process for what is missing of a published model; None if nothing is.

        To be called on the main thread: the kernel ends the process when that ends.
        """
        precision = cached_precision(model, options.offload, options.precision)
        if find(options.model_path, model, precision)[0] is not None:
            return None
        process = subprocess.Popen(  # noqa: S603 - this very program
            [*_COMMAND, str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        fields = {"model": model, "options": options.to_header()}
        return cls(process, Frame({"type": "fetch", **fields}))

    def run(self, progress: LoadProgress) -> None:
        """Have the files downloaded; raise `EngineError` (`LOAD_FAILED`) if they cannot be.

        A process that ends without a word is left to whoever looks for the files next.
        """
        try:
            with suppress(OSError):
                self._sent.write(encode(self._request))
                self._sent.close()
            while (frame := read_frame_blocking(self._heard)) is not None:
                header = frame.header
                if frame.type == "failed":
                    raise EngineError(
                        EngineErrorKind.LOAD_FAILED,
                        header["detail"],
                        sentence=header["sentence"],
                        values=header["values"],
                    )
                progress(header["stage"], header["fraction"])
        except FrameError:
            self._process.kill()
        finally:
            self._heard.close()
            self._process.wait()


def main() -> None:
    """Download, and tell how far it is."""
    from bot.engine.pipes import take_pipes  # noqa: PLC0415

    frames_in, frames_out = take_pipes()
    from bot.engine.lifeline import die_with_parent, leave_signals_to_parent  # noqa: PLC0415

    leave_signals_to_parent()
    die_with_parent(int(sys.argv[1]))
    with os.fdopen(frames_in, "rb") as requests, os.fdopen(frames_out, "wb") as answers:
        request = read_frame_blocking(requests)
        if request is None:  # No file was missing that the model wanted, or it could not be loaded.
            return

        def send(kind: str, **fields: Any) -> None:
            answers.write(encode(Frame({"type": kind, **fields})))
            answers.flush()

        def progress(stage: str, fraction: float | None) -> None:
            send("loading", stage=stage, fraction=fraction)

        options = EngineOptions.from_header(request.header["options"])
        model: str = request.header["model"]
        try:
            ensure(
                options.model_path,
                progress,
                repository=model,
                source=options.model_source,
                precision=cached_precision(model, options.offload, options.precision),
            )
        except EngineError as error:
            send("failed", detail=error.detail, sentence=error.template, values=error.values)


if __name__ == "__main__":
    main()
