"""What the grid of a job's pictures has to be, by what the database and the disk hold of it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from bot.domain.request import ImageRequest
from bot.pictures.grid import make_grid
from bot.pictures.parameters_written import batch_texts
from storage.backup import connect_read_only


def grid_of(data: Path, job_id: str) -> bytes:
    """Return the grid of a finished job of the bot that has its files in `data`."""
    with closing(connect_read_only(data / "bot.sqlite3")) as database:
        files = database.execute(
            "SELECT file FROM images WHERE job_id = ? ORDER BY position", (job_id,)
        ).fetchall()
        request, model = database.execute(
            "SELECT request, model FROM jobs WHERE id = ?", (job_id,)
        ).fetchone()
    texts = batch_texts(job_id, ImageRequest.from_json(request), model)
    return make_grid([(data / "images" / file).read_bytes() for (file,) in files], texts=texts)
