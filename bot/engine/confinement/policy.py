"""What a confined process is for: the files that it reads, and those that it writes."""

from __future__ import annotations

import os
import shutil
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final

from bot.engine.confinement.landlock import Access

_ROOT: Final = Path(__file__).resolve().parents[3]
READ: Final = Access.READ_FILE | Access.READ_DIR
RUN: Final = READ | Access.EXECUTE
DEVICE: Final = READ | Access.WRITE_FILE | Access.IOCTL_DEV
OUTPUT: Final = (
    READ
    | Access.WRITE_FILE
    | Access.TRUNCATE
    | Access.MAKE_REG
    | Access.MAKE_DIR
    | Access.REMOVE_FILE
    | Access.REMOVE_DIR
)
"""Ordinary files and folders; no links, which could lead others to files that are not its own."""
SCRATCH: Final = OUTPUT | Access.EXECUTE | Access.REFER | Access.MAKE_FIFO | Access.MAKE_SOCK
CACHE: Final = OUTPUT | Access.REFER

_PROGRAMS: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix", "/gnu/store")
_TOOLKITS: Final = ("/opt/cuda", "/opt/rocm", "/run/opengl-driver", "/run/current-system")
_TOOLKIT_NAMES: Final = ("CUDA_HOME", "CUDA_PATH", "ROCM_PATH", "LD_LIBRARY_PATH", "PATH")
# Not all of /etc: a service's settings may stand there, with its token.
_CONFIGURATION: Final = (
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "timezone", "passwd", "group",
    "nsswitch.conf", "os-release", "gcrypt", "ssl/openssl.cnf", "pki/tls/openssl.cnf", "OpenCL",
)  # fmt: skip
_COMPILERS: Final = ("cc", "gcc", "clang", "as", "ld")
_SYSTEM: Final = ("/proc", "/sys")
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty", "kfd", "dri", "dxg")
_DEVICE_NAMES: Final = ("nvidia*", "nvhost*", "nvmap", "nvgpu")
_MPS: Final = "CUDA_MPS_PIPE_DIRECTORY"
# Where a library's cache is, if its user has chosen a place.
_CACHES: Final = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH")
_WORKERS: Final = "TORCHINDUCTOR_COMPILE_THREADS"
_LINKS: Final = 10_000
_NOWHERE: Final = Path("/nonexistent")


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """What is allowed: `rules` by path. `closed` must stay closed, and so must all above it.

    `environment` is set. `connect` allows connections to sockets of this machine.
    """

    rules: Mapping[Path, Access]
    closed: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    connect: bool = False


def access_policy(
    scratch: Path | None,
    *,
    reads: Iterable[Path] = (),
    output: Path | None = None,
    caches: Iterable[Path] = (),
    closed: Iterable[Path] = (),
    compiled: Path | None = None,
) -> AccessPolicy:
    """Return the policy of a process of this program's code and Python.

    It reads `reads`, with what links in them lead to, and writes into `output`, `caches` and
    `scratch`, which is for temporary files and its home. `compiled` is for what the card's driver
    compiles.
    """
    shut = (*_settings(), *(Path(os.path.abspath(one)) for one in closed))  # noqa: PTH100 - not resolved
    rules: dict[Path, Access] = {}

    def allow(paths: Iterable[Path], access: Access) -> None:
        for path in paths:
            real = Path(os.path.realpath(path))
            if not _opens(real, shut):
                rules[real] = rules.get(real, Access(0)) | access

    environment = _environment(scratch, compiled)
    chosen = [Path(os.environ[name]) for name in _CACHES if os.environ.get(name)]
    chosen += [Path(environment[name]) for name in _CACHES if name in environment]
    writable = [*caches, *chosen]
    for folder in filter(None, (scratch, output, *chosen)):
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
    allow(_programs(), RUN)
    allow((Path("/etc", name) for name in _CONFIGURATION), READ)
    allow(map(Path, _SYSTEM), READ)
    allow(_devices(), DEVICE)
    # Semaphores and shared memory; whatever else this user keeps there is open too.
    allow([Path("/dev/shm")], OUTPUT)  # noqa: S108 - that is its name
    for path in reads:
        allow(chain(_parts(path, shut), _led_to(path)), READ)
    allow(writable, CACHE)
    allow(filter(None, [scratch]), SCRATCH)
    allow(filter(None, [output]), OUTPUT)
    mps = os.environ.get(_MPS)
    if mps:
        allow([Path(mps)], DEVICE)
    return AccessPolicy(rules, shut, environment, connect=bool(mps))


def _settings() -> Iterator[Path]:
    """Yield the checkout's `.env`; an installed package lies among the libraries, where none is."""
    if _ROOT.name not in {"site-packages", "dist-packages"}:
        yield _ROOT / ".env"


def _opens(path: Path, closed: Iterable[Path]) -> bool:
    reals = [Path(os.path.realpath(one)) for one in closed]
    return any(path == real or path in real.parents for real in reals)


def _parts(path: Path, closed: tuple[Path, ...]) -> Iterator[Path]:
    """Yield `path`, or where it holds what must stay closed what else is in it."""
    real = Path(os.path.realpath(path))
    if not _opens(real, closed):
        yield real
    elif real not in {Path(os.path.realpath(one)) for one in closed}:
        with suppress(OSError):
            for entry in real.iterdir():
                yield from _parts(entry, closed)


def _programs() -> Iterator[Path]:
    """Yield where programs, libraries, Python and this program's code lie."""
    yield from map(Path, (*_PROGRAMS, *_TOOLKITS))
    yield from map(Path, {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix})
    yield from map(Path, sysconfig.get_paths().values())
    yield from (Path(entry) for entry in sys.path if entry)
    yield from (_ROOT / name for name in ("bot", "storage"))
    yield from _compilers()
    for name in _TOOLKIT_NAMES:
        yield from (Path(one) for one in os.environ.get(name, "").split(os.pathsep) if one)


def _compilers() -> Iterator[Path]:
    """Yield where compilers lie with all that they run: prefix/bin/gcc runs prefix/libexec/…."""
    home = Path.home()
    own = os.environ.get("CC", "").split()[:1]
    for name in (*own, *_COMPILERS):
        if (found := shutil.which(name)) is None:
            continue
        for path in (Path(found), Path(os.path.realpath(found))):
            prefix = path.parent.parent
            if path.parent.name == "bin" and prefix != home and prefix not in home.parents:
                yield prefix


def _devices() -> Iterator[Path]:
    folder = Path("/dev")
    yield from (folder / name for name in _DEVICES)
    yield from chain.from_iterable(folder.glob(pattern) for pattern in _DEVICE_NAMES)


def _led_to(folder: Path) -> Iterator[Path]:
    """Yield where links in a folder lead to: a hub's cache consists of them."""
    paths = chain([folder], folder.rglob("*"))
    for path, _ in zip(paths, range(_LINKS), strict=False):
        if path.is_symlink():
            yield path.resolve()


def _environment(scratch: Path | None, compiled: Path | None) -> dict[str, str]:
    """Return what keeps libraries from looking for the user's own folders."""
    found = {
        "HOME": str(scratch or _NOWHERE),
        "XDG_CACHE_HOME": str((scratch or _NOWHERE) / "cache"),
    }
    if scratch is not None:
        found["TMPDIR"] = str(scratch)
    # inductor's worker processes could not compile for a GPU in here (torch 2.11 on an H200), where
    # the process itself can.
    found[_WORKERS] = os.environ.get(_WORKERS, "1")
    if base := site.getuserbase():  # Found by the home folder otherwise; packages may lie there.
        found["PYTHONUSERBASE"] = base
    if compiled is not None and not os.environ.get("CUDA_CACHE_PATH"):
        found["CUDA_CACHE_PATH"] = str(compiled / "cuda")
    return found
