"""What `make setup` installs is pinned whole, by hash, from no particular address."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
ENTRY = re.compile(r"^(?=[a-z0-9])", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
PYTHONS = ("3.11", "3.12", "3.13")
SYSTEMS = {
    "linux": ("Linux", "posix", "x86_64"),
    "win32": ("Windows", "nt", "AMD64"),
    "darwin": ("Darwin", "posix", "arm64"),
}
# What a build of torch brings; the lock leaves it to the index that torch comes from.
OF_TORCH = re.compile(r"torch|torchvision|triton|triton-windows|(nvidia|cuda)-.*")


def entries(lock: str) -> list[str]:
    return ENTRY.split((ROOT / lock).read_text("utf-8"))[1:]


def requirement(entry: str) -> Requirement:
    return Requirement(entry.partition("\\")[0].strip())


def wanted(file: str) -> list[Requirement]:
    found: list[Requirement] = []
    for line in (ROOT / file).read_text("utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("-r "):
            found += wanted(text.removeprefix("-r "))
        elif text:
            found.append(Requirement(text))
    return found


def environment(python: str, system: str) -> dict[str, str]:
    name, os_name, machine = SYSTEMS[system]
    return {
        "python_version": python,
        "python_full_version": f"{python}.7",
        "sys_platform": system,
        "platform_system": name,
        "os_name": os_name,
        "platform_machine": machine,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


def pinned(lock: str, where: dict[str, str]) -> dict[str, Version]:
    found: dict[str, Version] = {}
    for entry in entries(lock):
        read = requirement(entry)
        if read.marker is None or read.marker.evaluate(where):
            (exact,) = read.specifier
            assert exact.operator == "=="
            assert canonicalize_name(read.name) not in found, f"{read.name} stands twice in {lock}"
            found[canonicalize_name(read.name)] = Version(exact.version)
    return found


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("part", ["", "-dev"])
def test_the_lock_is_within_the_ranges(part, python, system):
    where = environment(python, system)
    versions = pinned(f"requirements{part}.lock", where) | pinned("requirements-torch.lock", where)
    for one in wanted(f"requirements{part}.txt"):
        if one.marker is not None and not one.marker.evaluate(where):
            continue
        assert canonicalize_name(one.name) in versions, f"run `make lock`: {one.name} is not locked"
        version = versions[canonicalize_name(one.name)]
        assert one.specifier.contains(version), f"run `make lock`: {one.name} {version}"


@pytest.mark.parametrize("python", PYTHONS)
def test_what_runs_is_what_was_tested(python):
    for system in SYSTEMS:
        where = environment(python, system)
        assert pinned("requirements.lock", where).items() <= (
            pinned("requirements-dev.lock", where).items()
        )


@pytest.mark.parametrize("part", ["", "-dev"])
def test_every_file_is_known_by_hash_and_none_by_address(part):
    lock = f"requirements{part}.lock"
    assert len(entries(lock)) > 50
    for entry in entries(lock):
        assert HASH.search(entry), f"{entry.splitlines()[0]} has no hash"
        assert not OF_TORCH.fullmatch(requirement(entry).name)
    text = (ROOT / lock).read_text("utf-8")
    assert not re.search(r"https?:|file:|--(extra-)?index-url|--find-links|/", text)


@pytest.mark.parametrize("part", ["", "-dev"])
def test_the_lock_is_whole(part):
    """Follow what each locked package asks for: `--no-deps` must leave out nothing."""
    locked = {
        canonicalize_name(read.name): read.specifier
        for read in map(requirement, entries(f"requirements{part}.lock"))
    }
    missing = {
        f"{one.name} (for {name})"
        for name, exact in locked.items()
        for one in needs(name, exact)
        if canonicalize_name(one.name) not in locked and not OF_TORCH.fullmatch(one.name)
    }
    assert not missing


def needs(name: str, exact: SpecifierSet) -> list[Requirement]:
    """Return what the installed package asks for here, if it is of the locked version."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:  # Of another system, or another Python.
        return []
    if not exact.contains(found.version):
        return []
    read = [Requirement(line) for line in found.requires or []]
    return [one for one in read if one.marker is None or one.marker.evaluate({"extra": ""})]
