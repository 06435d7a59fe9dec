"""What is done to the disk while it fails, and what has to be true of the disk afterwards.

`begin` comes before each fault, `act` meets it, and `check` looks at what it left: `done` says that
`act` returned. Then `act` is tried again on a disk that works, and must be `done`.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from bot.archive.gallery import Gallery
from bot.cli.backup import back_up
from bot.client.accept import Intake
from bot.client.fetch_slots import FetchSlots
from bot.domain.job import Job
from bot.engine.protocol import Picture
from bot.errors import StorageRefused
from bot.fleet.attempt import keep
from bot.jobs.queue import JobQueue
from bot.messages.upload import fit_grid
from storage.backup import copy_database
from storage.database import Database
from storage.images import ImageStore
from storage.migrate import read_migrations
from tests.engines import PREVIEW
from tests.jobs.kit import MODEL, PLENTY, Clock, make_origin, make_request, submit

JOB = "01abcdefghjkmnpqrs"
CONTENT = [bytes([number]) * 70_000 for number in range(3)]
OLD, NEW = b"old " * 20_000, b"new " * 30_000


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


class KeepBatch(Scenario):
    """Three pictures of a job go from the engine's folder to where they stay."""

    def draw(self) -> None:
        folder = self.store.work_dir(JOB)
        for number, content in enumerate(CONTENT):
            (folder / f"{number}.png").write_bytes(content)

    async def begin(self) -> None:
        self.draw()

    async def act(self) -> None:
        folder = self.store.work_dir(JOB)
        pictures = [
            Picture(n, folder / f"{n}.png", n, 1, 1, hashlib.sha256(content).hexdigest())
            for n, content in enumerate(CONTENT)
        ]
        self.records = await keep(self.store, JOB, pictures, None)

    async def check(self, *, done: bool) -> None:
        self.draw()  # As the engine does for the next try.
        wanted = {f"2027/01/15/{JOB}_{n}.png": content for n, content in enumerate(CONTENT)}
        self.check_shown(wanted, done=done)
        if done:
            assert [self.store.read(record) for record in self.records] == CONTENT


class KeepInput(Scenario):
    """A picture that a job starts from is stored."""

    async def act(self) -> None:
        await self.store.inputs.keep(JOB, NEW)

    async def check(self, *, done: bool) -> None:
        self.check_shown({f"inputs/{JOB}.input": NEW}, done=done)


class KeepForm(Scenario):
    """A picture for an open form takes the place of an older one of that form."""

    clock = time.time  # Files are judged by their age.

    async def begin(self) -> None:
        await self.store.form_pictures.keep(1, "other", OLD)
        await self.store.form_pictures.keep(1, "key", OLD)

    async def act(self) -> None:
        await self.store.form_pictures.keep(1, "key", NEW)

    async def check(self, *, done: bool) -> None:
        shown = self.shown()
        assert shown["kept/1_other"] == OLD
        # It is not told where it only failed to delete an older form's: both are whole.
        assert shown.get("kept/1_key", NEW) in ([NEW] if done else [NEW, OLD])
        assert not done or await self.store.form_pictures.read(1, "key") == NEW


class WithDatabase(Scenario):
    anew = False

    async def set_up(self) -> None:
        self.database = await Database.open(self.folder / "bot.sqlite3")
        self.queue = JobQueue(self.database, PLENTY, model=MODEL, clock=Clock())
        await self.queue.start()

    async def tear_down(self) -> None:
        await self.database.close()
        with closing(sqlite3.connect(self.folder / "bot.sqlite3")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert not connection.execute("PRAGMA foreign_key_check").fetchone()

    async def drawn(self) -> Job:
        """Return a job that was drawn, and answered with a picture."""
        await submit(self.queue)
        job = await self.queue.get()
        source = self.store.work_dir(job.id) / "0.png"
        source.write_bytes(NEW)
        record = await self.store.keep(job.id, 0, source, width=1, height=1, seed=1)
        assert await self.queue.commits.record_generated(job, [record], {}, None, MODEL)
        return job

    async def count(self, table: str) -> int:
        return await self.database.read(lambda tx: tx.value(f"SELECT count(*) FROM {table}"))


class Commit(WithDatabase):
    """A job and what belongs to it are committed."""

    async def set_up(self) -> None:
        await super().set_up()
        self.made = 0

    async def act(self) -> None:
        await submit(self.queue)
        self.made += 1

    async def check(self, *, done: bool) -> None:
        del done  # What `act` counted says as much.
        tables = ("jobs", "deliveries", "usage")
        assert [await self.count(table) for table in tables] == [self.made] * 3


class Accept(WithDatabase):
    """A request with a picture to start from is accepted: with both, or with nothing."""

    async def set_up(self) -> None:
        await super().set_up()
        self.intake = Intake(self.database, self.queue, self.store, cast("Any", None), FetchSlots())
        self.made = 0

    async def act(self) -> None:
        async def fetch() -> bytes:
            return NEW

        request = make_request(strength=0.5)
        try:
            await self.intake._submit(request, make_origin(), None, fetch, None)
        except StorageRefused:
            raise  # A sentence that its user can do something with.
        except OSError as error:
            raise AssertionError("the user reads nothing of it") from error
        self.made += 1

    async def check(self, *, done: bool) -> None:
        jobs = await self.queue.open_jobs()
        assert len(jobs) == self.made
        shown = self.shown()
        for job in jobs:
            assert shown.pop(f"inputs/{job.id}.input") == NEW
        # What could not be deleted again either is no job's, and goes at the next start.
        await Gallery(self.database, self.store).start()
        assert len(self.shown()) == self.made
        assert done or len(shown) <= 1


class Delete(WithDatabase):
    """A user deletes a picture: it is there, or it is known to be gone."""

    async def begin(self) -> None:
        self.job = await self.drawn()
        self.gallery = Gallery(self.database, self.store, clock=Clock())

    async def act(self) -> None:
        job = await self.queue.job(self.job.id)
        assert job is not None
        await self.gallery.delete(job, by=1)

    async def check(self, *, done: bool) -> None:
        job = await self.queue.job(self.job.id)
        assert job is not None
        shown = await self.gallery.page(1, 5)
        if job.deleted_at is None:
            assert not done
            (record,) = await self.queue.images(job.id)
            assert self.store.read(record) == NEW
            assert [one.id for one in shown.jobs] == [job.id]
        else:  # What is left of it goes at the next try or start.
            assert shown.jobs == []
            await Gallery(self.database, self.store).start()
            assert self.shown() == {}
            assert await self.queue.images(job.id) == []


class Read(Scenario):
    """Cards, exports and pages read pictures; what cannot be read is missing, and never wrong."""

    async def begin(self) -> None:
        self.records = []
        for number in range(3):
            source = self.store.work_dir(JOB) / f"{number}.png"
            source.write_bytes(PREVIEW)
            kept = await self.store.keep(JOB, number, source, width=1, height=1, seed=1)
            self.records.append(kept)

    async def act(self) -> None:
        gallery = Gallery(cast("Any", None), self.store)
        self.found = list(gallery.files([*self.records, None]))
        self.grid = fit_grid(map(self.store.read, self.records), "x", "x", texts={})

    async def check(self, *, done: bool) -> None:
        assert set(self.found) <= {PREVIEW, None}
        assert self.found.count(PREVIEW) >= (2 if done else 0)
        assert not done or self.grid.data.startswith(b"\x89PNG")


class Copy(Scenario):
    """A database is copied over an older copy."""

    async def begin(self) -> None:
        for name, rows in (("bot.sqlite3", 300), ("copy.sqlite3", 1)):
            with closing(sqlite3.connect(self.folder / name)) as connection, connection:
                connection.execute("CREATE TABLE notes (text TEXT)")
                connection.executemany("INSERT INTO notes VALUES (?)", [("x" * 500,)] * rows)

    async def act(self) -> None:
        copy_database(self.folder / "bot.sqlite3", self.folder / "copy.sqlite3")

    async def check(self, *, done: bool) -> None:
        with closing(sqlite3.connect(self.folder / "copy.sqlite3")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            (rows,) = connection.execute("SELECT count(*) FROM notes").fetchone()
        assert rows in ([300] if done else [1, 300])


class BackUp(WithDatabase):
    """The whole folder is backed up: the copy appears whole, or not at all."""

    long = True

    async def set_up(self) -> None:
        await super().set_up()
        job = await self.drawn()
        await self.store.inputs.keep(job.id, OLD)
        await self.database.close()

    async def begin(self) -> None:
        shutil.rmtree(self.folder / "copy", ignore_errors=True)

    async def act(self) -> None:
        settings = SimpleNamespace(
            database_path=self.folder / "bot.sqlite3",
            data_dir=self.folder,
            images_dir=self.store.root,
        )
        if not (self.folder / "copy").exists():
            back_up(cast("Any", settings), self.folder / "copy", images=True)

    async def check(self, *, done: bool) -> None:
        copy = self.folder / "copy"
        if not copy.exists():
            assert not done
            return
        with closing(sqlite3.connect(copy / "bot.sqlite3")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            ((file, sha256),) = connection.execute("SELECT file, sha256 FROM images").fetchall()
        assert hashlib.sha256((copy / "images" / file).read_bytes()).hexdigest() == sha256
        assert [path.read_bytes() for path in (copy / "images/inputs").iterdir()] == [OLD]


class Start(Scenario):
    """A database of the first schema is opened and brought up to date."""

    long = True

    async def begin(self) -> None:
        for left in self.folder.glob("bot.sqlite3*"):
            left.unlink()
        schema = Path(__file__).parents[1] / "storage/snapshots/v1.sql"
        with closing(sqlite3.connect(self.folder / "bot.sqlite3")) as connection:
            connection.executescript(schema.read_text("utf-8"))
            connection.execute("PRAGMA user_version = 1")
            self.before = connection.execute("SELECT count(*) FROM jobs").fetchone()

    async def act(self) -> None:
        database = await Database.open(self.folder / "bot.sqlite3")
        await database.close()

    async def check(self, *, done: bool) -> None:
        with closing(sqlite3.connect(self.folder / "bot.sqlite3")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("SELECT count(*) FROM jobs").fetchone() == self.before
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        assert version == len(read_migrations()) or not done


SCENARIOS: dict[str, type[Scenario]] = {
    one.__name__: one
    for one in (
        KeepBatch, KeepInput, KeepForm, Commit, Accept, Delete, Read, Copy, BackUp, Start
    )
}  # fmt: skip
