"""The image check's real process: what it answers, and what its faults cost."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from bot.app.app import build_check
from bot.config.settings import load_settings
from bot.errors import StartupError
from bot.imagecheck import process
from bot.imagecheck.process import ImageCheckProcess
from bot.rules.verdicts import Verdict


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


# A child that says something else than it should.
SAYS = """
import json, struct, sys
sys.stdin.buffer.read(4)
body = {body!r}.encode() + b"\\n"
sys.stdout.buffer.write(struct.pack(">I", len(body)) + body)
sys.stdout.buffer.flush()
sys.stdin.buffer.read()
"""


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / f"{n}.png" for n in range(2)]
    for path, colour in zip(paths, ("white", "navy"), strict=True):
        Image.new("RGB", (64, 48), colour).save(path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    paths = [*paths, tmp_path / "broken.png"]
    return [(path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]


@pytest.fixture
async def started():
    made: list[ImageCheckProcess] = []

    def start(threshold=0.8, **options) -> ImageCheckProcess:
        made.append(ImageCheckProcess(threshold, **options))
        return made[-1]

    yield start
    for check in made:
        await check.close()


@pytest.mark.slow
async def test_it_scores_pictures_and_comes_back_after_a_kill(pictures, started):
    check = started()
    found = await check.look(pictures)
    assert [result.verdict for result in found] == [Verdict.CLEAR, Verdict.CLEAR, Verdict.FAILED]
    assert 0 < found[0].score < 0.5
    assert found[2].score is None
    pid = check.pid
    os.kill(pid, signal.SIGKILL)
    await check._link._watch
    check._threshold = 0.0
    again = await check.look(pictures[:1])
    assert check.pid != pid
    assert [result.verdict for result in again] == [Verdict.FLAGGED]
    assert again[0].score == found[0].score
    await check.close()
    assert check.pid is None


async def test_another_file_than_the_recorded_one_is_not_checked(pictures, started):
    (path, _), (_, of_another) = pictures[:2]
    assert [result.verdict for result in await started().look([(path, of_another)])] == [
        Verdict.FAILED
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that confines")
async def test_it_reads_the_pictures_of_its_folder_alone(pictures, started, tmp_path, caplog):
    caplog.set_level("INFO")
    other = tmp_path / "other"
    other.mkdir()
    check = started(confined_to=other)
    inside = pictures[0][0].rename(other / "inside.png")
    # On a disk: the memory that other tests' files may be in is open to each process.
    with tempfile.TemporaryDirectory() as disk:
        outside = Path(shutil.copy(pictures[1][0], disk))
        found = await check.look([(inside, pictures[0][1]), (outside, pictures[1][1])])
    assert "the process is confined" in caplog.text
    refused = Verdict.FAILED if "files by Landlock" in caplog.text else Verdict.CLEAR
    assert [result.verdict for result in found] == [Verdict.CLEAR, refused]


@pytest.mark.parametrize(
    "command",
    [
        python("raise SystemExit(3)"),
        python("import sys; sys.stdin.buffer.read()"),
        ("/no/such/program",),
        python("print('hello', flush=True); input()"),
        python(SAYS.format(body='{"type": "scores", "scores": [0.1]}')),
        python(SAYS.format(body='{"type": "scores", "scores": [0.1, 7]}')),
        python(SAYS.format(body='{"type": "scores", "scores": "all fine"}')),
    ],
    ids=["ends", "silent", "missing", "garbled", "too few", "impossible", "no list"],
)
async def test_a_broken_check_fails_without_an_exception_and_rests(pictures, started, command):
    now = [0.0]
    silent = "stdin.buffer.read()" in command[-1] and "struct" not in command[-1]
    limit_s = 0.2 if silent else 20.0
    check = started(command=command, limit_s=limit_s, clock=lambda: now[0])
    found = await check.look(pictures[:2])
    assert [result.verdict for result in found] == [Verdict.FAILED] * 2
    assert check.pid is None
    check._command = process.own_command(process._COMMAND)
    check._limit_s = 20.0
    now[0] = 59.0
    assert (await check.look(pictures[:1]))[0].verdict is Verdict.FAILED
    assert check.pid is None
    if command[0].startswith("/no"):
        now[0] = 61.0
        assert (await check.look(pictures[:1]))[0].verdict is Verdict.CLEAR


def test_without_its_package_the_bot_does_not_start(monkeypatch):
    settings = load_settings(_env_file=None, image_check=True)
    check = build_check(settings)
    assert isinstance(check, ImageCheckProcess)
    assert check.pid is None
    monkeypatch.setattr(process, "_PACKAGE", "no_such_package")
    with pytest.raises(StartupError, match=r"requirements-moderation\.txt"):
        build_check(settings)
    assert build_check(load_settings(_env_file=None)) is None
