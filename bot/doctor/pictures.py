"""Checks of the picture files against their rows."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from bot.config.settings import Settings
from bot.doctor.finding import Finding, Level
from storage.backup import connect_read_only
from storage.plain_files import UntrustedFileError, open_plain

# A picture lies there for a moment before its row is committed; a full disk makes it longer.
_YOUNG_S: Final = 3600


def pictures(settings: Settings) -> Iterator[Finding]:
    """Find pictures that are missing or changed, by job, and files that no job knows."""
    if not settings.database_path.exists():
        yield Finding("pictures", Level.OK, "none yet")
        return
    # The files first: rows that come meanwhile then know more files than are listed, not fewer.
    listed = _listed(settings.images_dir)
    with closing(connect_read_only(settings.database_path)) as connection:
        rows = connection.execute(
            "SELECT job_id, file, sha256 FROM images ORDER BY file"
        ).fetchall()
    broken = 0
    for job_id, name, sha256 in rows:
        if problem := _problem(settings.images_dir, name, sha256):
            broken += 1
            yield Finding(
                "pictures",
                Level.ERROR,
                f"job {job_id}: {settings.images_dir / name} {problem}",
                "copy it from a backup; without one the picture is gone",
            )
    for name in sorted(listed - {name for _, name, _ in rows}):
        yield Finding(
            "pictures",
            Level.WARNING,
            f"{settings.images_dir / name} belongs to no job",
            "move it away if you don't want it; the bot never shows it",
        )
    if not broken:
        yield Finding("pictures", Level.OK, f"{len(rows)} recorded, each there and unchanged")


def _listed(folder: Path) -> set[str]:
    """Return the picture files that are not young, named as rows name them."""
    before = time.time() - _YOUNG_S
    return {
        path.relative_to(folder).as_posix()
        for path in folder.glob("[0-9]*/*/*/*")
        if path.is_file() and path.stat().st_mtime < before
    }


def _problem(folder: Path, name: str, sha256: str) -> str | None:
    try:
        with open_plain(folder, name) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "is missing"
    except UntrustedFileError:
        return "has another in its place (a link, or no file at all)"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if digest == sha256 else "has changed since it was made"
