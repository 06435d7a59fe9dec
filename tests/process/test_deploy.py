"""The service files agree with what the bot does."""

from __future__ import annotations

import asyncio
import configparser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import aiohttp
import pytest
import yaml

from bot.app.signals import STOP_LIMIT_S
from bot.catalogue.models import MODELS
from bot.cli.main import DEMO_PORT, EXIT_CONFIG, _parser
from bot.config.settings import Settings
from tests.process.kit import ROOT

DEPLOY = ROOT / "docs" / "deploy"
UNIT = DEPLOY / "qwen-image-bot.service"


def test_the_unit_follows_the_exit_codes():
    unit = configparser.ConfigParser(interpolation=None, delimiters="=", strict=False)
    unit.optionxform = str
    unit.read(UNIT, encoding="utf-8")
    service = unit["Service"]
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == str(EXIT_CONFIG)
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > STOP_LIMIT_S
    assert service["ExecStart"].endswith(".venv/bin/python -m bot run")
    # The engine's end for its memory is no end of the bot's.
    assert service["OOMPolicy"] == "continue"


def test_the_unit_keeps_the_card_and_writes_no_code():
    lines = [line.partition("=")[::2] for line in UNIT.read_text("utf-8").splitlines()]
    # Each of these keeps CUDA or Triton from working.
    blinding = {"PrivateDevices", "MemoryDenyWriteExecute", "PrivateUsers", "PrivateNetwork"}
    assert not blinding & {name for name, _ in lines}
    assert ("ProcSubset", "pid") not in lines
    # A closed policy, which ProtectClock also makes, leaves no other device open.
    assert ("DevicePolicy", "closed") in lines
    assert ("DeviceAllow", "char-nvidia* rw") in lines
    assert ("ProtectSystem", "strict") in lines
    (written,) = [value.split() for name, value in lines if name == "ReadWritePaths"]
    assert {path.rpartition("/")[2] for path in written} == {"data", "models", "logs"}
    allowed = " ".join(value for name, value in lines if name == "SystemCallFilter")
    assert {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"} <= set(
        allowed.split()
    )


needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


@needs_systemd
def test_systemd_finds_the_unit_closed(tmp_path):
    """0 is closed, 10 open; a usual service without any of this has over 9."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert done.stderr == ""  # no directive and no system call that it does not know
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert float(level[1]) <= 2.0


@needs_systemd
def test_systemd_accepts_the_unit(tmp_path):
    text = UNIT.read_text("utf-8")
    # The program has to be there, and the user known, for the check alone.
    text = text.replace("/opt/qwen-image-bot/.venv/bin/python", sys.executable)
    text = text.replace("User=imagebot", "User=root")
    unit = tmp_path / UNIT.name
    unit.write_text(text, "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", str(unit)],
        capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert (done.returncode, done.stderr.strip()) == (0, "")


COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions with their arguments, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def argument(instruction: str) -> str:
    """Return the argument of the last instruction of this kind, which is the one that counts."""
    return [rest for word, rest in instructions() if word == instruction][-1]


@pytest.mark.parametrize("service", SERVICES)
def test_the_compose_file_bounds_restarts_and_leaves_time_to_stop(service):
    bot = SERVICES[service]
    assert re.fullmatch(r"on-failure:\d+", bot["restart"])
    assert int(bot["stop_grace_period"].removesuffix("s")) > STOP_LIMIT_S
    assert (ROOT / bot["build"] / "Dockerfile").is_file()
    assert {name.lower() for name in bot["environment"]} <= set(Settings.model_fields)
    mounted = {volume.partition(":")[2]: volume.partition(":")[0] for volume in bot["volumes"]}
    assert set(mounted.values()) == COMPOSE["volumes"].keys()
    assert mounted.keys() == set(json.loads(argument("VOLUME")))
    # Whatever the bot writes lies in a volume, since the rest is read-only.
    for name in ("DATA_DIR", "IMAGE_MODEL_PATH", "IMAGE_LORA_PATH", "LOG_DIR"):
        assert any(Path(bot["environment"][name]).is_relative_to(place) for place in mounted)
    limits = bot["deploy"]["resources"]["limits"]
    assert limits["pids"] >= 256
    (gigabytes,) = re.fullmatch(r"\$\{BOT_MEMORY:-(\d+)g\}", limits["memory"]).groups()
    # Docker's g is 1024 ** 3 (RAMInBytes of github.com/docker/go-units).
    assert int(gigabytes) * 2**30 > max(
        spec.published.ram_gib * 2**30 for spec in MODELS.values() if spec.published
    )
    assert (bot["read_only"], bot["cap_drop"], bot["user"]) == (True, ["ALL"], argument("USER"))
    assert bot["security_opt"] == ["no-new-privileges:true"]
    assert all("size=" in one for one in bot["tmpfs"])
    assert bot["env_file"] == [{"path": ".env", "required": False}]


def test_without_a_profile_there_is_no_card_and_the_page_is_this_machines_alone():
    plain = [one for one in SERVICES.values() if "profiles" not in one]
    (bot,) = plain
    assert "reservations" not in bot["deploy"]["resources"]
    assert bot["ports"] == [f"127.0.0.1:{DEMO_PORT}:{DEMO_PORT}"]
    assert argument("EXPOSE") == str(DEMO_PORT)
    assert "command" not in bot, "the image's own: the demo, or the bot with a token"
    gpu = SERVICES["gpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert (gpu["profiles"], device["capabilities"]) == (["gpu"], ["gpu"])
    assert _parser().parse_args(gpu["command"]).command == "run"
    assert "ports" not in gpu


def test_the_image_is_built_of_what_is_there_and_runs_without_root():
    kinds = [word for word, _ in instructions()]
    assert (kinds[0], kinds.count("FROM")) == ("FROM", 1)
    assert set(kinds) <= {
        "FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV", "VOLUME", "EXPOSE", "HEALTHCHECK",
        "STOPSIGNAL", "ENTRYPOINT", "CMD",
    }  # fmt: skip
    # Nothing is installed or copied after root is left, and the base has a version.
    assert max(i for i, kind in enumerate(kinds) if kind in {"RUN", "COPY"}) < kinds.index("USER")
    assert re.fullmatch(r"python:3\.\d+-slim", argument("FROM"))
    uid = argument("USER").partition(":")[0]
    assert uid != "0"
    assert f"--uid {uid}" in DOCKERFILE
    assert argument("STOPSIGNAL") == "SIGTERM"
    assert json.loads(argument("ENTRYPOINT")) == ["python", "-m", "bot"]
    health = argument("HEALTHCHECK")
    assert re.search(r"python -m bot doctor --quick", health)
    assert f"127.0.0.1:{DEMO_PORT}/" in health
    locks = {"requirements.lock", "requirements-torch.lock"}
    assert copied() == {"requirements.txt", *locks, "bot", "cogs", "storage"}
    assert all(re.search(rf"-r {lock}\b", DOCKERFILE) for lock in locks)


def copied() -> set[str]:
    return {name for word, rest in instructions() if word == "COPY" for name in rest.split()[:-1]}


def ignored(path: Path) -> bool:
    """Tell whether .dockerignore keeps a file out of the build: the last line that fits counts."""
    answer = False
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        pattern, out = line.removeprefix("!"), not line.startswith("!")
        parts = [path, *path.parents][:-1]
        if any(fnmatch(one.as_posix(), pattern.replace("**/", "*")) for one in parts):
            answer = out
    return answer


def tree(app: Path) -> Path:
    """Make what the image has in its WORKDIR: what the build copies, and the volumes."""
    done = subprocess.run(
        ["git", "ls-files", *copied()], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in done.stdout.splitlines():
        assert not ignored(Path(name)), name
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, app / name)
    for place in json.loads(argument("VOLUME")):
        (app / Path(place).name).mkdir()
    return app


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(300)
async def test_the_entry_point_runs_in_what_the_build_copies(tmp_path):
    """As far as a machine without Docker can: the tree of the image, its command and its signal."""
    app = tree(tmp_path / "app")
    assert ignored(Path(".env"))
    assert ignored(Path("bot/__pycache__/x.pyc"))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "DATA_DIR": str(app / "data")}
    environment |= {"LOG_DIR": str(app / "data" / "logs")}
    before = set(app.rglob("*"))
    _, *entry = json.loads(argument("ENTRYPOINT"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *entry, *json.loads(argument("CMD")), cwd=app, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said = b""
        async with asyncio.timeout(200):
            while b"The picture was saved as" not in said:
                line = await process.stdout.readline()
                assert line, said.decode()
                said += line
            url = f"http://127.0.0.1:{DEMO_PORT}/"
            async with aiohttp.ClientSession() as session, session.get(url) as page:
                assert page.status == 200
            process.send_signal(getattr(signal, argument("STOPSIGNAL")))
            await process.stdout.read()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    # Nothing but the volumes was written to.
    new = {path.relative_to(app).parts[0] for path in set(app.rglob("*")) - before}
    assert new == {"data"}
