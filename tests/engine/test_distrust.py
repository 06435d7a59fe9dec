"""A child that is not trusted: what it writes, says and repeats costs the bot nothing but the job."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from bot.engine.frames import FrameError
from bot.engine.options import SilenceLimits
from bot.engine.parent import pipe
from bot.engine.parent.child_log import ChildLog
from bot.engine.parent.output_check import check_file, file_limit
from bot.engine.protocol import Picture, Step
from bot.errors import EngineError, EngineErrorKind
from bot.fleet.attempt import keep
from storage.images import ImageStore
from tests.engine.kit import HERE, draw, draw_well, misbehaving, react, request
from tests.engine.misbehaving import wait_for_file

Kind = EngineErrorKind
QUICK = SilenceLimits(start=30, load=30, denoise=0.5, decode=0.5, save=1.0, obey=1.0)
slow = pytest.mark.slow
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="makes links, FIFOs and signals")


@posix_only
@pytest.mark.parametrize(
    ("act", "detail"),
    [
        ("symlink", "is a link"),
        ("hard-link", "second name"),
        pytest.param("linked-folder", "is a link", marks=slow),
        pytest.param("fifo", "no regular", marks=slow),
        pytest.param("sparse", "too large", marks=slow),
        pytest.param("goes-on", "goes on after its end", marks=slow),
        pytest.param("many-chunks", "too many parts", marks=slow),
    ],
)
async def test_another_file_than_its_own_plain_picture(tmp_path, monkeypatch, act, detail):
    folder = tmp_path / "job"
    folder.mkdir()
    # Confined, it could not do what the bot's own checks are tried with here.
    async with misbehaving(tmp_path, monkeypatch, confinement="off") as engine:
        with pytest.raises(EngineError, match=detail) as caught:
            await draw(engine, request(folder, act))
    assert caught.value.kind is Kind.GARBLED


@pytest.fixture
async def shared_engine(tmp_path, monkeypatch):
    async with misbehaving(tmp_path, monkeypatch, limits=QUICK, confinement="off") as engine:
        yield engine


@posix_only
async def test_a_picture_exchanged_after_its_check_is_not_kept(tmp_path, monkeypatch):
    store = ImageStore(tmp_path / "images")
    folder = store.work_dir("job1")
    (folder.parent / "secret").write_bytes(b"DISCORD_TOKEN=canary")
    pictures: list[Picture] = []

    async def on_event(event) -> None:
        if isinstance(event, Picture):
            pictures.append(event)
            (folder / "checked").touch()

    async with misbehaving(tmp_path, monkeypatch, confinement="off") as engine:
        await react(engine, request(folder, "exchange"), on_event)
    (picture,) = pictures
    assert picture.path.is_symlink()
    with pytest.raises(EngineError, match="is a link") as caught:
        await keep(store, "job1", pictures, None)
    assert caught.value.kind is Kind.GARBLED
    # The same with a file of its own in the place of the link.
    picture.path.unlink()
    picture.path.write_bytes(b"DISCORD_TOKEN=canary")
    with pytest.raises(EngineError, match="changed after its check"):
        await keep(store, "job1", pictures, None)
    assert not [path for path in store.root.rglob("2*/*/*/*") if path.is_file()]
    assert not list((store.root / ".staged").rglob("*.png"))


def test_no_honest_picture_is_too_large():
    """Noise, in the largest kind of pixels, with long texts and small chunks."""
    wanted = request(Path(), width=640, height=512, texts=({"parameters": "猫" * 20_000},))
    noise = Image.frombytes("RGBA", (640, 512), os.urandom(4 * 640 * 512))
    file = io.BytesIO()
    noise.save(file, "PNG", compress_level=0)
    assert len(file.getvalue()) + 60_000 <= file_limit(wanted, 0)
    assert file_limit(wanted, 0) < 640 * 512 * 4 + 2**18


def test_a_transparent_picture_without_alpha_is_refused(tmp_path):
    work = tmp_path / "job1"
    work.mkdir()
    path = work / "0.png"
    for mode, fine in (("RGBA", True), ("LA", True), ("RGB", False), ("P", False)):
        Image.new(mode, (64, 48)).save(path)
        check_file(path, (64, 48), 2**20)
        if fine:
            check_file(path, (64, 48), 2**20, alpha=True)
        else:
            with pytest.raises(FrameError, match="no alpha channel"):
                check_file(path, (64, 48), 2**20, alpha=True)


@posix_only
@slow
def test_the_bot_stays_small_whatever_the_child_sends(tmp_path):
    """The peak of a process of its own that has all of the bot imported."""
    acts = ["fine", "sparse", "64-mb", "json-bomb", "preview-flood", "many-chunks", "fine"]
    done = subprocess.run(
        [sys.executable, "-c", SMALL, str(tmp_path), *acts],
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}"},
        capture_output=True,
        check=True,
        timeout=100,
    )
    found = json.loads(done.stdout)
    assert found["kinds"] == [None, *["garbled"] * 5, None]
    assert found["peak_mib"] < 200, found


SMALL = """
import asyncio, json, pathlib, resource, sys
import bot.app.app
from bot.engine.options import Backoff, EngineOptions, SilenceLimits
from bot.engine.parent.process import EngineProcess
from bot.errors import EngineError
from bot.fleet.attempt import keep
from bot.engine.protocol import Picture
from storage.images import ImageStore
from tests.engine.kit import request
root = pathlib.Path(sys.argv[1])
store = ImageStore(root / "images")
async def main():
    options = EngineOptions(root, pipeline="misbehaving:build")
    engine = EngineProcess("any", options=options, backoff=Backoff(base=0.01))
    kinds = []
    for number, act in enumerate(sys.argv[2:]):
        wanted = request(store.work_dir(f"job{number}"), act, job=f"job{number}")
        pictures = []
        try:
            async for event in engine.generate(wanted):
                if isinstance(event, Picture):
                    pictures.append(event)
                elif act == "preview-flood":
                    await asyncio.sleep(0.05)
            await keep(store, wanted.job_id, pictures, None)
            kinds.append(None)
        except EngineError as error:
            kinds.append(error.kind)
    await engine.close()
    # Of this program alone: `ru_maxrss` begins with what the process had that started it.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if (status := pathlib.Path("/proc/self/status")).exists():
        peak = int(status.read_text().split("VmHWM:")[1].split()[0])
    print(json.dumps({"kinds": kinds, "peak_mib": peak / 1024}))
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "act", ["same-step", *(pytest.param(a, marks=slow) for a in ("same-stages", "step-flood"))]
)
async def test_only_progress_is_progress(shared_engine, tmp_path, act):
    with pytest.raises(EngineError, match="no progress") as caught:
        await draw(shared_engine, request(tmp_path, act))
    assert caught.value.kind is Kind.SILENT


@slow
async def test_a_flood_does_not_hide_behind_a_slow_consumer(shared_engine, tmp_path):
    """The next message is always there already, so that the bot never waits for one."""

    async def on_event(event) -> None:
        if event == Step(1, 2):
            threading.Event().wait(0.02)  # whatever the loop does meanwhile

    with pytest.raises(EngineError, match="no progress") as caught:
        await react(shared_engine, request(tmp_path, "step-flood"), on_event)
    assert caught.value.kind is Kind.SILENT


async def test_a_load_that_repeats_itself_is_silent(tmp_path, monkeypatch):
    limits = SilenceLimits(load=0.4)
    async with misbehaving(tmp_path, monkeypatch, "load-repeats", limits=limits) as engine:
        with pytest.raises(EngineError, match=r"no progress in 0\.4 s of load") as caught:
            await engine.load()
        assert caught.value.kind is Kind.SILENT


async def test_a_job_past_its_time_is_ended_whatever_its_progress(tmp_path, monkeypatch):
    async with misbehaving(tmp_path, monkeypatch) as engine:
        await engine.load()
        pid = engine.pid
        with pytest.raises(EngineError, match=r"not done in 0\.3 s") as caught:
            await draw(engine, request(tmp_path, "steps", time_limit_s=0.3))
        assert caught.value.kind is Kind.OVERTIME
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        await draw_well(engine, request(tmp_path, "fine", job="job2", time_limit_s=60))


@slow
async def test_time_in_which_the_bot_was_held_is_not_the_childs(tmp_path, monkeypatch):
    """The loop stands still for longer than the limit while the child goes on."""
    limits = SilenceLimits(denoise=0.5)
    async with misbehaving(tmp_path, monkeypatch, limits=limits) as engine:
        await engine.load()

        async def on_event(event) -> None:
            if event == Step(1, 4):
                # Within the wait for the next step, which comes 0.3 s later, the last in 0.9 s.
                loop.call_later(0.05, wait_for_file, tmp_path / "held")

        loop = asyncio.get_running_loop()
        await react(engine, request(tmp_path, "held 0.3"), on_event)


async def test_a_child_that_was_held_as_well_gets_its_time(tmp_path, monkeypatch):
    """As where the whole machine stood still: there is nothing in the pipe yet."""
    limits = SilenceLimits(denoise=1.0)
    async with misbehaving(tmp_path, monkeypatch, limits=limits) as engine:
        await engine.load()

        def hold() -> None:
            threading.Event().wait(2.2)
            (tmp_path / "go").touch()

        async def on_event(event) -> None:
            if event == Step(1, 4):
                loop.call_later(0.05, hold)

        loop = asyncio.get_running_loop()
        await react(engine, request(tmp_path, "wait-for-go"), on_event)


@posix_only
@slow
def test_a_bot_that_was_stopped_does_not_blame_its_child(tmp_path):
    """As `kill -STOP`, a debugger or a busy hypervisor do it."""
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path)],
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}"},
        stdout=subprocess.PIPE,
        text=True,
    ) as bot:
        assert bot.stdout is not None
        assert bot.stdout.readline() == "drawing\n"
        os.kill(bot.pid, signal.SIGSTOP)
        wait_for_file(tmp_path / "held")  # The child has gone on for 5 s by then.
        os.kill(bot.pid, signal.SIGCONT)
        assert bot.communicate(timeout=50)[0] == "Finished\n"


STOPPED = """
import asyncio, pathlib, sys
from bot.engine.options import EngineOptions, SilenceLimits
from bot.engine.parent.process import EngineProcess
from bot.engine.protocol import Step
from tests.engine.kit import request
folder = pathlib.Path(sys.argv[1])
async def main():
    engine = EngineProcess(
        "any", options=EngineOptions(folder, pipeline="misbehaving:build"),
        limits=SilenceLimits(denoise=2.0),
    )
    async for event in engine.generate(request(folder, "held 1.7")):
        if event == Step(1, 4):
            print("drawing", flush=True)
    print(type(event).__name__)
    await engine.close()
asyncio.run(main())
"""


@slow
async def test_a_flood_of_lines_is_cut_and_counted(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "bot.engine.child")
    async with misbehaving(tmp_path, monkeypatch) as engine:
        await draw_well(engine, request(tmp_path, "log-flood"))
    lines = [record.getMessage() for record in caplog.records if record.name == "bot.engine.child"]
    written = [line for line in lines if "far too many" in line]
    left_out = [int(line.split()[0]) for line in lines if "lines left out" in line]
    assert len(written) < 1000
    assert len(written) + sum(left_out) == 20_000


def test_lines_come_back_when_the_flood_is_over(caplog):
    caplog.set_level(logging.INFO, "bot.engine.child")
    now = [0.0]
    child_log = ChildLog(clock=lambda: now[0])
    for number in range(1000):
        child_log.write(f"line {number}")
    now[0] = 1.0
    child_log.write("the last words")
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:300] == [f"line {number}" for number in range(300)]
    assert lines[300:] == ["700 lines left out: the engine writes too many", "the last words"]


async def test_large_frames_wait_in_the_child():
    """What nobody has read yet is bounded by its bytes; then all of it is read."""

    class Room(asyncio.Event):
        def clear(self) -> None:
            full.set()
            super().clear()

    full = asyncio.Event()
    link = await pipe.PipeLink.start((sys.executable, "-c", LARGE), os.environ)
    link._room = Room()
    async with asyncio.timeout(20):
        await full.wait()
        assert link.inbox._items.qsize() <= 8
        for _ in range(40):
            frame = await link.inbox.receive(20, "reading")
            assert frame is not None
            assert len(frame.tail) == 2**20
            assert link.inbox._items.qsize() <= 8
    await link.kill()


LARGE = """
import sys
frame = b'{"type":"preview"}\\n' + bytes(2**20)
for _ in range(40):
    sys.stdout.buffer.write(len(frame).to_bytes(4, "big") + frame)
"""


@slow
async def test_frames_are_read_at_a_bounded_pace(tmp_path, monkeypatch):
    """With no refill in the test's time, what comes after the first hundred is not read."""
    monkeypatch.setattr(pipe, "_FRAMES_AT_ONCE", 100)
    monkeypatch.setattr(pipe, "_FRAMES_A_SECOND", 1e-6)
    read = []
    note = pipe.Inbox.note_life
    monkeypatch.setattr(pipe.Inbox, "note_life", lambda inbox: (read.append(1), note(inbox))[1])
    limits = SilenceLimits(denoise=0.5)
    async with misbehaving(tmp_path, monkeypatch, limits=limits) as engine:
        with pytest.raises(EngineError, match="no progress"):
            await draw(engine, request(tmp_path, "heartbeat-flood"))
    assert 100 <= len(read) <= 102


@slow
async def test_a_flood_of_heartbeats_costs_no_job(tmp_path, monkeypatch):
    monkeypatch.setattr(pipe, "_FRAMES_A_SECOND", 1e5)
    async with misbehaving(tmp_path, monkeypatch) as engine:
        await draw_well(engine, request(tmp_path, "heartbeat-flood"))
