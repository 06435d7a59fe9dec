"""The service files agree with what the bot does."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from bot.app.signals import STOP_LIMIT_S
from bot.catalogue.models import MODELS
from bot.cli.main import EXIT_CONFIG, _parser
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


def test_the_compose_file_bounds_restarts_and_leaves_time_to_stop():
    bot = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]["bot"]
    assert re.fullmatch(r"on-failure:\d+", bot["restart"])
    assert int(bot["stop_grace_period"].removesuffix("s")) > STOP_LIMIT_S
    assert (DEPLOY / bot["build"]["context"] / bot["build"]["dockerfile"]).is_file()
    assert {name.lower() for name in bot["environment"]} <= set(Settings.model_fields)
    mounted = {volume.partition(":")[2] for volume in bot["volumes"]}
    assert bot["environment"]["DATA_DIR"] in mounted
    (device,) = bot["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    limits = bot["deploy"]["resources"]["limits"]
    assert limits["pids"] >= 256
    (gigabytes,) = re.fullmatch(r"\$\{BOT_MEMORY:-(\d+)g\}", limits["memory"]).groups()
    assert int(gigabytes) * 1e9 > max(
        spec.published.ram_gib * 2**30 for spec in MODELS.values() if spec.published
    )
    assert (bot["read_only"], bot["cap_drop"], bot["user"]) == (True, ["ALL"], "1000:1000")
    assert bot["security_opt"] == ["no-new-privileges:true"]
    assert all("size=" in one for one in bot["tmpfs"])
    *program, command, depth = bot["healthcheck"]["test"]
    assert program == ["CMD", "python", "-m", "bot"]
    assert _parser().parse_args([command, depth]).quick


def test_the_image_has_what_the_bot_imports():
    lines = (DEPLOY / "Dockerfile").read_text("utf-8").splitlines()
    copied = {name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]}
    locks = {"requirements.lock", "requirements-torch.lock"}
    assert copied == {"requirements.txt", *locks, "bot", "cogs", "storage"}
    assert all(re.search(rf"-r {lock}\b", "\n".join(lines)) for lock in locks)
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert {f"!{name}" for name in copied} <= set(ignored)
    assert 'ENTRYPOINT ["python", "-m", "bot"]' in lines
