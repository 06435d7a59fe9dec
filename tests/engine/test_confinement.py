"""The child's confinement: what it cannot do any more, by trying, and what it still can."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from bot.engine.child.confined import engine_policy
from bot.engine.confinement import landlock
from bot.engine.confinement.policy import CACHE, READ, RUN, access_policy
from bot.engine.options import EngineOptions
from bot.engine.parent.environment import child_environment
from bot.engine.parent.process import EngineProcess
from bot.errors import EngineError, EngineErrorKind
from tests.engine.hub import Hub
from tests.engine.kit import HERE, draw, draw_well, request
from tests.engine.test_weights import FILES

try:
    ABI = landlock.abi()
except landlock.NoLandlock:
    ABI = 0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that confines")
needs_landlock = pytest.mark.skipif(
    ABI < landlock.SIGNALS, reason="the kernel's Landlock cannot deny all of this"
)
SCRIPT = str(HERE / "without_landlock.py")
WITHOUT_LANDLOCK = (sys.executable, SCRIPT, "-m", "bot.engine.child")
HOLDS = {
    *(f"read {name}" for name in ("env", "database", "picture", "home", "parent")),
    *(f"{act} {name}" for act in ("list", "write") for name in ("data", "other", "home")),
    *("write model", "tcp", "udp", "unix", "link", "hard link"),
    *("signal parent", "end parent"),
}
WORKS = {
    *(f"read {name}" for name in ("input", "model", "lora", "linked")),
    *("list model", "write output", "write compiled", "compile", "name", "pair"),
}


@pytest.fixture
def bot(tmp_path, monkeypatch):
    """A bot's folders, as `local_engines` gives them to an engine; home is there too."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH"):
        monkeypatch.delenv(name, raising=False)
    work = tmp_path / "data" / "images" / ".work"
    for folder in ("home", "model/compiled", "loras", "blobs", "data/images/2026"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("engine-local-0/job1", "engine-local-1"):
        (work / folder).mkdir(parents=True)
    for file in (
        ".env", "data/bot.sqlite3", "data/images/2026/0.png", "home/.netrc", "model/weights",
        "loras/a.safetensors", "blobs/linked", "data/images/.work/engine-local-0/job1/input",
    ):  # fmt: skip
        (tmp_path / file).write_text("canary")
    (tmp_path / "model" / "linked").symlink_to(tmp_path / "blobs" / "linked")
    return tmp_path


def options_of(bot, **changes) -> EngineOptions:
    options = EngineOptions(
        bot / "model",
        lora_path=bot / "loras",
        pipeline="prying:build",
        confinement="auto",
        work_path=bot / "data" / "images" / ".work" / "engine-local-0",
        closed=(str(bot / ".env"), str(bot / "data")),
    )
    return replace(options, **changes)


@contextmanager
def listening(bot):
    """Yield what the child is told: what there is, a TCP and a Unix socket that somebody hears."""
    local = str(bot / "s")
    with closing(socket.create_server(("127.0.0.1", 0))) as tcp, socket.socket(socket.AF_UNIX) as unix:  # fmt: skip
        unix.bind(local)
        unix.listen()
        files = {"env": ".env", "database": "data/bot.sqlite3", "home": "home/.netrc"}
        files["picture"] = "data/images/2026/0.png"
        folders = {"data": "data", "home": "home", "model": "model"}
        folders["other"] = "data/images/.work/engine-local-1"
        yield json.dumps(
            {
                "files": {name: str(bot / path) for name, path in files.items()},
                "folders": {name: str(bot / path) for name, path in folders.items()},
                "tcp": tcp.getsockname(),
                "socket": local,
            }
        )


async def found_by(engine: EngineProcess, bot) -> dict[str, str]:
    output = bot / "data" / "images" / ".work" / "engine-local-0" / "job1"
    try:
        with listening(bot) as prompt:
            wanted = request(output, prompt, input_image=output / "input")
            await draw_well(engine, wanted)
    finally:
        await engine.close()
    return json.loads((output / "found.json").read_text())


@needs_landlock
async def test_a_confined_child_does_its_work_and_nothing_else(bot, caplog):
    caplog.set_level("INFO")
    found = await found_by(EngineProcess("any", options=options_of(bot)), bot)
    done = {name for name in HOLDS | WORKS if found[name] == "done"}
    assert done == WORKS
    assert found["rings"] == "PermissionError"
    assert int(found["oom"]) >= 500
    assert re.search(r"^NoNewPrivs:\s+1$", found["status"], re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", found["status"], re.MULTILINE)
    assert f"confined: files by Landlock (ABI {ABI}), network by seccomp" in caplog.text
    assert (bot / ".env").read_text() == "canary"


async def test_a_child_that_is_not_confined_can_do_all_of_it(bot, caplog):
    caplog.set_level("INFO")
    found = await found_by(EngineProcess("any", options=options_of(bot, confinement="off")), bot)
    assert {name for name in HOLDS if found[name] == "done"} == HOLDS
    assert "confined" not in caplog.text


async def test_a_kernel_without_landlock_is_told_of_and_still_closes_the_network(bot, caplog):
    engine = EngineProcess("any", options=options_of(bot), command=WITHOUT_LANDLOCK)
    found = await found_by(engine, bot)
    assert {found[name] for name in ("tcp", "udp", "unix")} == {"PermissionError"}
    assert found["read env"] == "done"
    (record,) = [one for one in caplog.records if "confined" in one.message]
    assert record.levelname == "WARNING"
    assert "not: files, since the kernel was built without Landlock" in record.message


async def test_confinement_that_is_required_and_not_there_is_a_sentence(bot):
    engine = EngineProcess(
        "any",
        options=options_of(bot, confinement="required"),
        command=WITHOUT_LANDLOCK,
    )
    try:
        with pytest.raises(EngineError) as raised:
            await draw(engine, request(bot / "data"))
    finally:
        await engine.close()
    assert raised.value.kind is EngineErrorKind.LOAD_FAILED
    assert "ENGINE_CONFINEMENT" in raised.value.sentence


@pytest.mark.slow
@needs_landlock
async def test_blocks_are_compiled_and_the_compilers_cache_is_kept(bot):
    """By gcc, with its caches and temporary files."""
    found = await found_by(EngineProcess("compiled", options=options_of(bot)), bot)
    assert found["compile"] == "done"
    assert list((bot / "model" / "compiled").rglob("*.so"))
    assert [path.name for path in (bot / "home").iterdir()] == [".netrc"]


@pytest.mark.slow
@needs_landlock
@pytest.mark.parametrize("cut", [False, True])
async def test_missing_files_of_the_model_come_through_a_process_outside(bot, monkeypatch, cut):
    files = dict.fromkeys(FILES, b"{}") | {
        name: (2).to_bytes(8, "little") + b"{}" for name in FILES if name.endswith(".safetensors")
    }
    with Hub(files) as hub:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9" if cut else hub.url)
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        engine = EngineProcess("Qwen/Qwen-Image", options=options_of(bot))
        if cut:
            with pytest.raises(EngineError) as raised:
                await found_by(engine, bot)
            assert "could not be downloaded from Hugging Face" in raised.value.sentence
            return
        found = await found_by(engine, bot)
    assert found["tcp"] == found["write model"] == "PermissionError"
    assert (bot / "model" / "Qwen" / "Qwen-Image" / FILES[3]).read_bytes() == files[FILES[3]]


@needs_landlock
async def test_a_model_folder_around_the_data_is_opened_in_parts(bot):
    """A volume that holds all: `models`, `data` and `.env` beneath one folder."""
    options = options_of(bot, model_path=bot)
    (bot / "weights").write_text("w")
    (bot / "linked").symlink_to(bot / "blobs" / "linked")
    found = await found_by(EngineProcess("any", options=options), bot)
    done = {name for name in ("read model", "read env", "read database", "list data") if found[name] == "done"}  # fmt: skip
    assert done == {"read model"}


def test_all_models_that_an_engine_may_be_switched_to_are_open(tmp_path):
    models = ("Qwen/Qwen-Image", "Qwen/Qwen-Image-2.1", "tiny")
    options = EngineOptions(tmp_path / "models", lora_path=tmp_path / "loras", models=models)
    rules = engine_policy("tiny", options, tmp_path / "work").rules
    for name in models[:2]:
        assert rules[tmp_path / "models" / name] & READ == READ
        assert rules[tmp_path / "models" / name / "fp8-cache"] & CACHE == CACHE
    edit = "Qwen/Qwen-Image-Edit-2511"
    options = EngineOptions(tmp_path / "models", lora_path=tmp_path / "loras")
    rules = engine_policy(edit, options, tmp_path / "work").rules
    for name in (edit, models[0]):  # Its text encoder may lie there.
        assert rules[tmp_path / "models" / name] & READ == READ
        assert rules[tmp_path / "models" / name / "fp8-cache"] & CACHE == CACHE
    assert tmp_path / "models" / models[1] not in rules
    assert not (tmp_path / "models/Qwen/Qwen-Image-Edit-2509").exists()


def test_the_bots_own_memory_is_private():
    """Others of the same user, the engine's process among them, cannot read its token there."""
    source = (
        "import ctypes, resource; from bot.cli.main import main; main(['settings']); "
        "print(ctypes.CDLL(None).prctl(3), resource.getrlimit(resource.RLIMIT_CORE)[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True,
        env=child_environment(),
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0 0"


def test_a_compiler_is_allowed_with_all_that_it_runs_and_no_home_folder(tmp_path, monkeypatch):
    """gcc in a folder of its own runs prefix/libexec/…/cc1; one in ~/bin opens no home."""
    for prefix in ("toolchain", "home"):
        program = tmp_path / prefix / "bin" / "gcc"
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "toolchain" / "bin"))
    assert access_policy(None).rules[tmp_path / "toolchain"] == RUN
    monkeypatch.setenv("PATH", str(tmp_path / "home" / "bin"))
    rules = access_policy(None).rules
    assert tmp_path / "home" not in rules
    assert rules[tmp_path / "home" / "bin"] == RUN
