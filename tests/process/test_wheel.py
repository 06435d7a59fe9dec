"""The installed package: built, put into an environment of its own, and run from an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image

import bot
from tests.process.kit import ROOT

PACKAGES = ("bot", "cogs", "storage")
BESIDE = ("pyproject.toml", "README.md", "LICENSE")
BUILT = {".mo", ".safetensors", ".sql", ".js", ".css", ".html", ".svg", ".gz", ".txt", ".py"}
SITE = sysconfig.get_path("purelib")


def run(*command: str | Path, folder: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=kept | extra,
        capture_output=True, text=True, check=False, timeout=55,
    )  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build it of a copy: setuptools leaves folders in the source."""
    pytest.importorskip("setuptools", minversion="77", reason="pip install 'setuptools>=77'")
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in BESIDE:
        shutil.copy(ROOT / name, source)
    done = run(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index",
        "--no-build-isolation", "-w", built, source, folder=source,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def program(wheel, tmp_path_factory):
    """Install it where the tests' packages can be seen, but not this source."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=os.name != "nt")
    own = folder / Path(SITE).relative_to(sys.prefix)
    (own / "packages-of-the-tests.pth").write_text(SITE)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"]
    done = run(*pip, "-q", "--no-deps", "--no-index", wheel, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "bin" / "imagine-bot"


@pytest.mark.slow
def test_the_wheel_has_every_file_that_the_bot_reads(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    there = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.suffix in BUILT
    }
    assert packed == there
    assert wheel.name.startswith(f"imagine_bot-{bot.__version__}-")


@pytest.mark.slow
def test_the_program_has_a_name_and_a_version(program, tmp_path):
    done = run(program, "--version", folder=tmp_path)
    assert (done.stdout.strip(), done.returncode) == (bot.__version__, 0)
    helped = run(program, "--help", folder=tmp_path).stdout
    assert helped.startswith("usage: imagine-bot ")
    example = run(program, "settings", folder=tmp_path).stdout
    assert example == (ROOT / ".env.example").read_text("utf-8")


@pytest.mark.slow
def test_the_folder_that_it_is_started_in_has_its_settings(program, tmp_path):
    (tmp_path / ".env").write_text("LIMIT_OPEN_JOBS=many\n")
    done = run(program, "doctor", "--quick", folder=tmp_path)
    assert "LIMIT_OPEN_JOBS" in done.stdout
    assert done.returncode == 1


@pytest.mark.slow
def test_the_doctor_knows_its_packages_without_a_requirements_file(program, tmp_path):
    done = run(program, "doctor", "--quick", "--json", folder=tmp_path, IMAGE_MODEL_NAME="tiny",
               IMAGE_CHECK="true")  # fmt: skip
    told = {one["check"]: one for one in json.loads(done.stdout)}
    assert told["packages"]["level"] == "ok"
    assert told["packages"]["text"].endswith(" of imagine-bot are installed")
    assert "of imagine-bot[moderation]" in told["optional packages"]["text"]
    assert told["engine confinement"]["level"] == "ok"


@pytest.mark.slow
def test_its_confined_child_reads_the_libraries_around_it(program, tmp_path):
    """Those that it imports late, which lie in the same folder as the package."""
    own = program.parent.parent / Path(SITE).relative_to(sys.prefix)
    (own / "imported_late.py").write_text("VALUE = 5\n")
    code = (
        "import sys; from bot.engine.confinement.confine import confine;"
        "from bot.engine.confinement.policy import access_policy;"
        "told = confine(access_policy(None)); import imported_late; print(imported_late.VALUE, told)"
    )
    done = run(program.with_name("python"), "-c", code, folder=tmp_path)
    assert done.stdout.startswith("5 the process is confined"), done.stderr


@pytest.mark.slow
def test_it_draws_beside_another_program_of_the_same_name(program, tmp_path):
    """The engine is a child process: it is this package's, whatever lies in the folder."""
    other = tmp_path / "bot"
    other.mkdir()
    (other / "__init__.py").write_text("raise SystemExit('another bot')\n")
    done = run(program, "demo", "--once", "a red circle", "--out", "out.png", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (256, 256)
    assert list((tmp_path / "data" / "demo").glob("bot.sqlite3"))
