"""What each scenario is: its stages, and how what the disk shows is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storage.images import ImageStore
from storage.input_pictures import GivenInputs
from tests.jobs.kit import Clock

JOB = "01abcdefghjkmnpqrs"
CONTENT = [bytes([number]) * 70_000 for number in range(3)]
OLD, NEW = b"old " * 20_000, b"new " * 30_000
GIVEN = GivenInputs(None, (NEW, NEW), NEW)


class Scenario:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ImageStore(folder / "images", clock=self.clock)

    anew = True
    """Whether each fault meets a new folder; not where opening it takes most of the time."""
    long = False
    """Whether it makes so many calls that not all kinds of faults are met."""
    longest = False
    """Whether it makes so many that each call meets only one of those kinds, in turn."""
    clock: Any = Clock()
    lasting = False
    """Whether the present fault lasts until `act` ends."""

    async def set_up(self) -> None:
        """Make what a folder has from the begin."""

    async def begin(self) -> None:
        """Make what is there before each fault."""

    async def act(self) -> None:
        raise NotImplementedError

    async def check(self, *, done: bool) -> None:
        raise NotImplementedError

    async def tear_down(self) -> None:
        """Close what is open."""

    def check_shown(self, wanted: dict[str, bytes], *, done: bool) -> None:
        """All is there, or nothing; where nothing could be deleted either, nothing half."""
        shown = self.shown()
        if self.lasting and not done:
            assert shown.items() <= wanted.items()
        else:
            assert shown == (wanted if done else {})

    def shown(self) -> dict[str, bytes]:
        """Return the files that stand where pictures stay, which is not where they are written."""
        found = [path for path in self.store.root.rglob("[!.]*") if path.is_file()]
        names = [(path.relative_to(self.store.root).as_posix(), path) for path in found]
        return {name: path.read_bytes() for name, path in names if not name.startswith(".")}
