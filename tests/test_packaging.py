"""The package: its ranges, its version, its address, and what `pip install` puts where."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

import bot
from bot.doctor.packages import EXTRAS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def ranges(file: str) -> set[Requirement]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines())
    return {Requirement(line) for line in lines if line and not line.startswith("-r ")}


def test_the_files_for_pip_say_what_the_package_says():
    extras = PROJECT["optional-dependencies"]
    assert ranges("requirements.txt") == set(map(Requirement, PROJECT["dependencies"]))
    for extra, lines in extras.items():
        own = {one for one in map(Requirement, lines) if one.name != PROJECT["name"]}
        assert ranges(f"requirements-{extra}.txt") == own, extra
    (every,) = [one for one in map(Requirement, extras["dev"]) if one.name == PROJECT["name"]]
    assert every.extras == extras.keys() - {"dev"}
    included = re.findall(r"^-r (\S+)", (ROOT / "requirements-dev.txt").read_text(), re.MULTILINE)
    assert set(included) == {"requirements.txt"} | {f"requirements-{e}.txt" for e in every.extras}
    assert {f"requirements-{extra}.txt" for extra in EXTRAS} <= set(included)


def test_the_version_has_its_changes():
    """The newest release in the list of changes is this version, with its day."""
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    releases = re.findall(r"^## (.+)$", changes, re.MULTILINE)
    assert releases[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(bot.__version__)} - \d{{4}}-\d\d-\d\d", releases[1])
    assert "version" in PROJECT["dynamic"]
    assert bot.__version__ in (ROOT / "docs" / "upgrading.md").read_text("utf-8")
