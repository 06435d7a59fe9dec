"""A torch-free backend that misbehaves on request: the prompt says how, the model name how it loads."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

from PIL import Image

from bot.engine.backend import Drawn, LoadInfo
from bot.engine.frames import LIMIT
from bot.engine.options import Activity
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled


class OutOfMemoryError(RuntimeError):
    """Named as torch names it."""


class AcceleratorError(RuntimeError):
    """Named as torch names it."""


def wait_for_ever() -> None:
    threading.Event().wait()


def wait_for_file(path: Path) -> None:
    while not path.exists():
        threading.Event().wait(0.01)


class Misbehaving:
    def __init__(self, model: str, options) -> None:
        self.model = model
        self.folder = options.model_path

    def load(self, progress) -> LoadInfo:
        if self.model == "load-hangs":
            wait_for_ever()
        if self.model == "load-dies":
            os._exit(3)
        if self.model == "load-waits":
            progress("waiting", 0.5)
            wait_for_file(self.folder / "go")
        if self.model == "load-needs-file" and not (self.folder / "weights").exists():
            raise EngineError(
                EngineErrorKind.LOAD_FAILED, "weights", sentence="The file weights is missing."
            )
        return LoadInfo(self.model, "none")

    def generate(self, request, report):
        report.stage(Activity.DENOISE)
        report.step(1, request.steps)
        act = "do_" + request.prompt.split()[0].replace("-", "_")
        if act in globals():
            globals()[act](request, report)
        for index, seed in enumerate(request.seeds):
            image = Image.new("RGB", (request.width, request.height), (seed % 256, 0, index))
            yield Drawn(image, {"denoise": 0.5})


def do_raise(request, report) -> None:
    raise ValueError(f"cannot draw {request.prompt}")


def do_oom(request, report) -> None:
    raise OutOfMemoryError("tried to allocate 20.00 GiB")


def do_oom_text(request, report) -> None:
    raise RuntimeError("CUDA error: out of memory")


def do_memory_error(request, report) -> None:
    raise MemoryError


def do_cuda_fault(request, report) -> None:
    raise AcceleratorError("CUDA error: device-side assert triggered")


def do_exit(request, report) -> None:
    os._exit(0)


def do_segv(request, report) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def do_hang(request, report) -> None:
    wait_for_ever()


def do_hang_saving(request, report) -> None:
    report.stage(Activity.SAVE)
    wait_for_ever()


def do_junk(request, report) -> None:
    print("junk by print")  # noqa: T201 - the very thing that libraries do
    sys.stdout.flush()
    os.write(1, b"\x00\xff\xff\xffjunk by write\n" * 100)
    os.write(1, b"x" * 100_000)


def do_oversized(request, report) -> None:
    report.channel.write((LIMIT + 1).to_bytes(4, "big") + b"x" * 2**20)
    wait_for_ever()


def do_garbage(request, report) -> None:
    report.channel.write((5).to_bytes(4, "big") + b"{no}\n")
    wait_for_ever()


def do_no_such_activity(request, report) -> None:
    report.channel.send("stage", job=request.job_id, activity="daydream")
    wait_for_ever()


def do_half_a_frame(request, report) -> None:
    report.channel.write((100).to_bytes(4, "big") + b'{"type":')
    os._exit(0)


def do_wrong_job(request, report) -> None:
    report.channel.send("step", job="another", index=1, total=2)
    wait_for_ever()


def do_huge_preview(request, report) -> None:
    report.preview(1, bytes(LIMIT))


def do_preview(request, report) -> None:
    report.preview(1, b"\x00\n\xffpicture")


def do_steps(request, report) -> None:
    for index in range(2, 1_000_000):
        report.step(index, 1_000_000)
        threading.Event().wait(0.002)


def do_deaf(request, report) -> None:
    for index in range(2, 1_000_000):
        try:
            report.step(index, 1_000_000)
        except GenerationCancelled:
            wait_for_ever()
        threading.Event().wait(0.002)


def do_environ(request, report) -> None:
    (request.output_dir / "environ.json").write_text(json.dumps(dict(os.environ)))


def do_speak_later(request, report) -> None:
    def speak() -> None:
        wait_for_file(request.output_dir / "speak")
        report.channel.send("step", job=request.job_id, index=9, total=9)
        (request.output_dir / "spoken").touch()

    threading.Thread(target=speak, daemon=True).start()


def build(model: str, options) -> Misbehaving:
    return Misbehaving(model, options)
