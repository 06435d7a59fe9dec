"""Confining the process that calls it: as far as the system can, and what came of it.

`python -m bot.engine.confinement.confine` tries it, and prints that.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.engine.confinement import landlock
from bot.engine.confinement.kernel import (
    be_killed_first,
    drop_capabilities,
    keep_memory_private,
    renounce_privileges,
)
from bot.engine.confinement.landlock import Access, NoLandlock
from bot.engine.confinement.policy import READ, AccessPolicy, access_policy
from bot.engine.confinement.seccomp import NoSeccomp, filter_process

_pinned: Final[list[int]] = []


@dataclass(frozen=True, slots=True)
class Confinement:
    """What holds: Landlock's ABI (0: none) and the filter, and why not, in a few words each."""

    landlock: int
    filtered: bool
    reasons: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether files and network are both closed."""
        return self.landlock > 0 and self.filtered and not self.reasons

    def __str__(self) -> str:
        """Say it in a line of the log."""
        held: list[str] = []
        if self.landlock:
            held.append(f"files by Landlock (ABI {self.landlock})")
        if self.filtered:
            held.append("network by seccomp")
        text = f"the process is confined: {', '.join(held) or 'nothing'}"
        return f"warning: {text}; not: {'; '.join(self.reasons)}" if self.reasons else text


def confine(policy: AccessPolicy) -> Confinement:
    """Confine this process, which must have no other threads yet, and all that it starts, for ever.

    What the system does not have is left out and told in the result; nothing is raised.
    """
    os.environ.update(policy.environment)
    tempfile.tempdir = None  # It may have looked for the folder before.
    be_killed_first()
    reasons: list[str] = []
    version, filtered = 0, False
    try:
        renounce_privileges()
    except (OSError, AttributeError) as error:
        reasons.append(f"anything, since the system cannot ({error})")
    else:
        try:
            drop_capabilities()
        except OSError as error:
            reasons.append(f"root's rights ({error})")
        try:
            version = _close_files(policy)
        except NoLandlock as error:
            reasons.append(f"files, since {error}")
        try:
            filter_process(connect=policy.connect)
            filtered = True
        except NoSeccomp as error:
            reasons.append(f"network, since {error}")
    keep_memory_private()
    if version:
        reasons += [f"{path} can still be opened" for path in _open(policy.closed)]
    return Confinement(version, filtered, tuple(reasons))


def _close_files(policy: AccessPolicy) -> int:
    """Return Landlock's ABI; raise `NoLandlock`."""
    version = landlock.abi()
    rules = dict(policy.rules)
    pinned: list[tuple[int, Access]] = []
    with contextlib.suppress(OSError):
        # CUDA names its threads in /proc/self/task/*/comm and refuses to start where it cannot. A
        # rule is for what is in memory of such a folder, which an open descriptor keeps there.
        _pinned.append(os.open("/proc/self/task", os.O_PATH | os.O_CLOEXEC))
        pinned.append((_pinned[-1], READ | Access.WRITE_FILE | Access.TRUNCATE))
    try:
        landlock.restrict(version, rules, pinned)
    except OSError as error:
        raise NoLandlock(f"the system refuses it ({error.strerror})") from None
    return version


def _open(paths: Iterable[Path]) -> list[Path]:
    """Return those of the paths that can be opened for reading."""
    found: list[Path] = []
    for path in paths:
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_RDONLY))
            found.append(path)
    return found


def say(confinement: Confinement) -> None:
    """Write a line for the log."""
    sys.stderr.write(f"{confinement}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.stdout.write(f"{confine(access_policy(None))}\n")
