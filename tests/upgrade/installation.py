"""An old installation, unpacked: its files, its database, and what was noted of it."""

from __future__ import annotations

import json
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bot.config.settings import Settings, load_settings

ARCHIVE = Path(__file__).parent / "c520ff5" / "installation.tar.xz"


def unpack(folder: Path) -> None:
    """Unpack with the files' times, which the FP8 cache goes by."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")


@dataclass(frozen=True)
class Installation:
    """The folder of an old bot; jobs, messages and forms have names (c520ff5/story.py)."""

    root: Path

    @cached_property
    def scene(self) -> dict[str, Any]:
        return json.loads((self.root / "discord" / "scene.json").read_text("utf-8"))

    @property
    def jobs(self) -> dict[str, str]:
        return self.scene["jobs"]

    @property
    def images(self) -> Path:
        return self.root / "data" / "images"

    def settings(self, **changes: Any) -> Settings:
        """What this code reads in the old `.env`."""
        return load_settings(_env_file=self.root / ".env", **changes)

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """Ask the database; a write-ahead log that is there counts."""
        with closing(sqlite3.connect(self.root / "data" / "bot.sqlite3")) as database:
            return database.execute(sql, values).fetchall()

    def pictures(self, job: str) -> list[str]:
        """The SHA-256 of a job's pictures, as they are recorded."""
        sql = "SELECT sha256 FROM images WHERE job_id = ? ORDER BY position"
        return [row[0] for row in self.rows(sql, self.jobs[job])]

    def reference(self, name: str) -> Any:
        return json.loads((self.root / "expected" / name).read_text("utf-8"))
