"""A torch-free backend that misbehaves on request: the prompt says how, the model name how it loads."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

from PIL import Image

from bot.engine.child.backend import Drawn, LoadInfo, WrittenText
from bot.engine.frames import LIMIT
from bot.engine.options import Activity
from bot.engine.protocol import CardUse
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled


def numbered_jpeg(number: int) -> bytes:
    picture = io.BytesIO()
    Image.new("L", (32, 32), number).save(picture, "JPEG")
    return picture.getvalue()


def small_jpeg() -> bytes:
    """A JPEG whose bytes hold what ends a frame's header."""
    picture = io.BytesIO()
    Image.linear_gradient("L").resize((48, 64)).save(picture, "JPEG")
    assert b"\n" in picture.getvalue()
    return picture.getvalue()


PREVIEW = small_jpeg()


class OutOfMemoryError(RuntimeError):
    """Named as torch names it."""


class AcceleratorError(RuntimeError):
    """Named as torch names it."""


def wait_for_ever() -> None:
    threading.Event().wait()


def wait_for_file(path: Path) -> None:
    while not path.exists():
        threading.Event().wait(0.01)


def wait_for_cancel(request, report) -> None:
    while request.job_id not in report._cancelled:
        threading.Event().wait(0.01)


CARD_USE = CardUse(
    budget=2**33,
    bound="what is free",
    foreign=3 * 2**30,
    blocks=60,
    resident=23,
    pinned=2**30,
    pin_wanted=2**33,
    pin_refused=True,
    uncompiled="Triton is missing",
)


class Misbehaving:
    def __init__(self, model: str, options) -> None:
        self.model = model
        self.folder = options.model_path

    def load(self, progress) -> LoadInfo:
        if self.model == "load-hangs":
            wait_for_ever()
        if self.model == "load-dies":
            os._exit(3)
        if self.model == "load-dies-twice":
            tries = len(list(self.folder.glob("try-*")))
            (self.folder / f"try-{tries}").touch()
            if tries < 2:
                os.kill(os.getpid(), signal.SIGKILL)
        if self.model.startswith("load-waits"):
            progress("waiting", 0.5)
            wait_for_file(self.folder / "go")
            assert self.model == "load-waits"
        if self.model == "load-repeats":
            while True:
                progress("reading the weights", 0.5)
                threading.Event().wait(0.01)
        if self.model.startswith("load-needs-file") and not (self.folder / "weights").exists():
            raise EngineError(
                EngineErrorKind.LOAD_FAILED, "weights", sentence="The file weights is missing."
            )
        return LoadInfo(self.model, "none", card_use=CARD_USE)

    held = None

    def switch(self, model: str, _progress) -> LoadInfo:
        if model == "hangs":
            wait_for_ever()
        raise AcceleratorError("CUDA error")

    def write(self, request, report) -> WrittenText:
        import writing_acts  # as below

        return writing_acts.ACTS[request.prompt.split()[0]](request, report)

    def generate(self, request, report):
        import spoiling  # in the child alone, whose PYTHONPATH has this folder
        import writing_acts

        if request.prompt == "compile":
            report.stage(Activity.COMPILE)
            wait_for_file(self.folder / "go")
        if request.prompt == "compile-until-cancel":
            report.stage(Activity.COMPILE)
            wait_for_cancel(request, report)
        report.stage(Activity.DENOISE)
        if request.prompt == "compile-late":
            report.step(1, request.steps)
            report.stage(Activity.COMPILE)
            wait_for_ever()
        if request.prompt == "hold-first":
            wait_for_cancel(request, report)
        report.step(1, request.steps)
        name = "do_" + request.prompt.split()[0].replace("-", "_")
        if act := globals().get(name) or getattr(spoiling, name, getattr(writing_acts, name, None)):
            act(request, report)
        for index, seed in enumerate(request.seeds):
            size = request.width, request.height
            image = Image.new("RGB", size, (seed % 256, 0, index))
            if request.prompt == "noise":
                image.frombytes(os.urandom(3 * size[0] * size[1]))
            yield Drawn(image, {"denoise": 0.5}, card_use=replace(CARD_USE, resident=20))


def do_draw(request, report) -> None:
    """All steps, and a preview after each but the last."""
    for index in range(2, request.steps + 1):
        picture = io.BytesIO()
        Image.new("RGB", (32, 32), (index, 0, 0)).save(picture, "JPEG")
        report.preview(index - 1, picture.getvalue())
        report.step(index, request.steps)


def do_noise(request, report) -> None:
    do_draw(request, report)


def do_hold(request, report) -> None:
    report.step(2, request.steps)
    wait_for_cancel(request, report)
    for index in range(3, request.steps + 1):
        report.step(index, request.steps)


def do_refuse(request, report) -> None:
    raise EngineError(
        EngineErrorKind.REFUSED,
        "no such LoRA",
        sentence="There is no LoRA {name}.",
        values={"name": "owl"},
    )


def do_full_disk(request, report) -> None:
    raise EngineError(EngineErrorKind.DISK_REFUSED, "no space", sentence="the bot's disk is full")


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


def do_cublas(request, report) -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def do_cudnn(request, report) -> None:
    raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")


def do_torch_oom(request, report) -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def do_torch_cpu_oom(request, report) -> None:
    import torch

    torch.empty(2**60, dtype=torch.uint8)


def do_sigkill(request, report) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def do_close_pipe(request, report) -> None:
    os.close(report.channel._descriptor)
    wait_for_ever()


def do_grandchild(request, report) -> None:
    """Leave a process behind that holds the pipes open."""
    pipe = report.channel._descriptor
    other = subprocess.Popen(["sleep", "600"], pass_fds=[pipe])
    (request.output_dir.parent / "grandchild").write_text(str(other.pid))
    os._exit(5)


def do_family(request, report) -> None:
    """Hang, with a process below."""
    other = subprocess.Popen(["sleep", "600"])
    (request.output_dir / "grandchild").write_text(str(other.pid))
    wait_for_ever()


def do_64_mb(request, report) -> None:
    report.channel.write((64 * 2**20).to_bytes(4, "big"))
    report.channel.write(bytes(64 * 2**20))
    wait_for_ever()


def do_raw_junk(request, report) -> None:
    report.channel.write(b"Loading checkpoint shards: 100%\n" * 4096)
    wait_for_ever()


def do_many_steps(request, report) -> None:
    report.channel.send("step", job=request.job_id, index=10**12, total=1)
    wait_for_ever()


def do_infinite_step(request, report) -> None:
    report.channel.send("step", job=request.job_id, index=float("inf"), total=1)
    wait_for_ever()


def do_long_sentence(request, report) -> None:
    raise EngineError(EngineErrorKind.RAISED, "d" * 100_000, sentence="Long. " * 100_000)


def do_stubborn(request, report) -> None:
    """Ignore every wish to stop."""
    for index in range(2, 1_000_000):
        with contextlib.suppress(GenerationCancelled):
            report.step(index, 1_000_000)
        threading.Event().wait(0.002)


def do_write_down(request, report) -> None:
    (request.output_dir.parent / "prompts.json").write_text(
        json.dumps([request.prompt, request.negative_prompt])
    )


def do_chatty(request, report) -> None:
    """Show the prompt whole, escaped, cut, broken, and in an exception."""
    for text in (request.prompt, request.negative_prompt):
        sys.stdout.write(f"encoding {text}\nthe part {text[5:60]} was truncated\n{text!r}\n")
        sys.stdout.write(json.dumps(text) + "\n" + text.encode().hex() + "\n")
    sys.stdout.flush()
    raise KeyError(request.prompt)


def do_after_the_end(request, report) -> None:
    """Go on talking about a job that is over."""
    original = report.channel.send

    def changed(sent: str, /, tail: bytes = b"", **fields) -> None:
        original(sent, tail, **fields)
        if sent == "finished":
            original("step", job=request.job_id, index=1, total=1)
            original(sent, tail, **fields)
            report.channel.send = original

    report.channel.send = changed


def do_exit(request, report) -> None:
    os._exit(0)


def do_segv(request, report) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def do_hang(request, report) -> None:
    sys.stderr.write("it hangs\n")
    sys.stderr.flush()
    wait_for_ever()


def do_hang_saving(request, report) -> None:
    report.stage(Activity.SAVE)
    wait_for_ever()


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
    report.preview(1, PREVIEW)


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


def do_held(request, report) -> None:
    """Draw a step each so many seconds, then leave a mark; the parent's pipe takes it all."""
    for index in range(2, request.steps + 1):
        threading.Event().wait(float(request.prompt.split()[1]))
        report.step(index, request.steps)
    (request.output_dir / "held").touch()


def do_wait_for_go(request, report) -> None:
    wait_for_file(request.output_dir / "go")
    report.step(2, request.steps)


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
