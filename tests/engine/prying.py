"""A torch-free backend that tries all that a poisoned decoder would, and notes what it could do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

from PIL import Image

from bot.engine.child.backend import Drawn, LoadInfo
from bot.engine.confinement.kernel import syscall
from bot.engine.files.find import ensure


def tries(request, options) -> dict[str, object]:
    """Things to try, by name. The prompt says what the bot has where, as JSON."""
    told = json.loads(request.prompt)
    output = request.output_dir

    def connect(kind: int, *address) -> None:
        with socket.socket(socket.AF_INET, kind) as opened:
            opened.connect(address)
            opened.send(b"stolen")

    def connect_unix() -> None:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.connect(told["socket"])

    def compile_c() -> None:
        source = Path(os.environ.get("TMPDIR", "/tmp"), "a.c")
        source.write_text("int main(void) { return 7; }")
        program = source.with_suffix("")
        subprocess.run(["cc", source, "-o", program], check=True)
        if subprocess.run([program], check=False).returncode != 7:
            raise OSError("it does not run")

    def name_a_thread() -> None:
        """As CUDA does, and refuses to start where it cannot."""
        done = threading.Event()
        thread = threading.Thread(target=done.wait)
        thread.start()
        try:
            comm = os.open(f"/proc/self/task/{thread.native_id}/comm", os.O_RDWR)
            os.write(comm, b"named")
            os.close(comm)
        finally:
            done.set()

    return {
        **{f"read {name}": Path(path).read_bytes for name, path in told["files"].items()},
        **{
            f"list {name}": lambda p=path: list(Path(p).iterdir())
            for name, path in told["folders"].items()
        },
        **{
            f"write {name}": lambda p=path: Path(p, "planted").write_text("x")
            for name, path in told["folders"].items()
        },
        "read parent": Path(f"/proc/{os.getppid()}/environ").read_bytes,
        "signal parent": lambda: os.kill(os.getppid(), 0),
        "end parent": lambda: os.kill(os.getppid(), signal.SIGURG),  # which does nothing to it
        "tcp": lambda: connect(socket.SOCK_STREAM, *told["tcp"]),
        "udp": lambda: connect(socket.SOCK_DGRAM, "127.0.0.1", 9),
        "unix": connect_unix,
        "rings": lambda: syscall(425, 0, None),  # io_uring_setup: EFAULT where it may be called
        "link": lambda: (output / "0.png").symlink_to(told["files"]["env"]),
        "hard link": lambda: os.link(told["files"]["env"], output / "hard.png"),
        "read input": request.input_image.read_bytes,
        "read model": (options.model_path / "weights").read_bytes,
        "read lora": (options.lora_path / "a.safetensors").read_bytes,
        "read linked": (options.model_path / "linked").read_bytes,
        "write output": lambda: (output / "note.txt").write_text("x"),
        "write compiled": lambda: (options.model_path / "compiled" / "x").write_text("x"),
        "compile": compile_c,
        "name": name_a_thread,
        "pair": lambda: [one.close() for one in socket.socketpair()],
    }


def compile_a_function(cache: Path) -> None:
    """As the streaming engine does, which goes on without where it fails."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
    import torch

    given = torch.rand(64, 64)
    compiled = torch.compile(torch.nn.functional.gelu, fullgraph=True)(given)
    assert torch.allclose(compiled, torch.nn.functional.gelu(given), atol=1e-5)


class Prying:
    def __init__(self, model: str, options) -> None:
        self.model = model
        self.options = options

    def load(self, progress) -> LoadInfo:
        if "/" in self.model:
            ensure(self.options.model_path, progress, repository=self.model)
        if self.model == "compiled":
            compile_a_function(self.options.model_path / "compiled")
        return LoadInfo("prying", "none")

    def generate(self, request, report):
        report.step(1, request.steps)
        found: dict[str, str] = {}
        for name, attempt in tries(request, self.options).items():
            try:
                attempt()
            except OSError as error:
                found[name] = f"{type(error).__name__}"
            else:
                found[name] = "done"
        status = Path("/proc/self/status").read_text()
        found["oom"] = Path("/proc/self/oom_score_adj").read_text().strip()
        found["status"] = status
        (request.output_dir / "found.json").write_text(json.dumps(found))
        for _ in request.seeds:
            yield Drawn(Image.new("RGB", (request.width, request.height)), {"denoise": 0.1})


def build(model: str, options) -> Prying:
    return Prying(model, options)
