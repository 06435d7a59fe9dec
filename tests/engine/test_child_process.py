"""The child as a process: its environment, its signals, its end with its parent."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys

import pytest

from bot.engine.frames import Frame, encode, read_frame_blocking
from bot.engine.options import EngineOptions
from bot.engine.parent.environment import child_environment
from tests.engine.kit import HERE, draw_well, misbehaving, request

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="uses pidfds")


async def test_the_child_sees_no_secret(tmp_path, monkeypatch) -> None:
    for name in ("DISCORD_TOKEN", "API_KEYS", "SOME_SECRET"):
        monkeypatch.setenv(name, "canary")
    async with misbehaving(tmp_path, monkeypatch) as engine:
        await draw_well(engine, request(tmp_path, "environ"))
    seen = json.loads((tmp_path / "environ.json").read_text())
    assert "PATH" in seen
    assert "canary" not in json.dumps(seen)


LOADING = """
import os, pathlib, sys
from bot.engine.models.build import build
from bot.engine.options import EngineOptions
from bot.errors import EngineError
try:
    build("Qwen/Qwen-Image", EngineOptions(pathlib.Path("models"))).load(lambda *_: None)
except EngineError as error:
    from torch._inductor.runtime.cache_dir_utils import cache_dir
    print(cache_dir(), "torch.cuda" in error.detail)
"""


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.parametrize("own", [None, "elsewhere"])
def test_compiled_code_is_kept_with_the_model(tmp_path, own) -> None:
    """As torch itself sees it, which chooses a folder for temporary files when it is imported."""
    environment = child_environment({**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)
    if own is not None:
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path / own)
    done = subprocess.run(
        [sys.executable, "-c", LOADING],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split() == [str(tmp_path / (own or "models/compiled")), "True"]


async def test_control_c_leaves_the_child_to_its_parent(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch) as engine:
        await engine.load()
        os.kill(engine.pid, signal.SIGINT)
        pid = engine.pid
        await draw_well(engine, request(tmp_path))
        assert engine.pid == pid


PARENT = """
import asyncio
from pathlib import Path
from tests.engine.kit import request
from bot.engine.options import EngineOptions
from bot.engine.parent.process import EngineProcess
from bot.engine.protocol import Step

async def main():
    folder = Path({folder!r})
    engine = EngineProcess("any", options=EngineOptions(folder, pipeline="misbehaving:build"))
    async for event in engine.generate(request(folder, "hang")):
        if isinstance(event, Step):
            print(engine.pid, flush=True)

asyncio.run(main())
"""


@linux_only
def test_the_child_dies_with_its_parent(tmp_path) -> None:
    source = PARENT.format(folder=str(tmp_path))
    environment = {**child_environment(), "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}"}
    with subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, env=environment
    ) as parent:
        child = int(parent.stdout.readline())
        pidfd = os.pidfd_open(child)
        try:
            parent.kill()
            parent.wait()
            assert select.select([pidfd], [], [], 10)[0], "the child outlived its parent"
        finally:
            os.close(pidfd)


def test_the_child_ends_when_its_input_does(tmp_path) -> None:
    command = [sys.executable, "-m", "bot.engine.child", str(os.getpid())]
    options = EngineOptions(tmp_path, pipeline="misbehaving:build").to_header()
    environment = {**child_environment(), "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as child:
        child.stdin.write(
            encode(Frame({"type": "init", "model": "load-hangs", "options": options}))
        )
        child.stdin.write(encode(Frame({"type": "load"})))
        child.stdin.flush()
        while read_frame_blocking(child.stdout).type != "loading":
            pass
        child.stdin.close()
        assert child.wait(timeout=30) == 0


def test_a_child_whose_parent_is_gone_does_not_start(tmp_path) -> None:
    command = [sys.executable, "-m", "bot.engine.child", "1"]
    done = subprocess.run(
        command, input=b"", capture_output=True, timeout=30, check=False, env=child_environment()
    )
    assert (done.returncode, done.stdout) == (0, b"")


def test_the_parent_imports_no_torch() -> None:
    source = (
        "import sys, bot.engine.parent.process; "
        "sys.exit(any(n in sys.modules for n in ('torch', 'diffsynth', 'transformers', 'PIL')))"
    )
    assert (
        subprocess.run([sys.executable, "-c", source], cwd=HERE.parents[1], check=False).returncode
        == 0
    )
