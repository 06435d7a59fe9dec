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
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from bot.archive.backup import back_up
from bot.archive.gallery import Gallery
from bot.client.accept import Gathered, Intake
from bot.client.fetch_slots import FetchSlots
from bot.delivery.visibility import Visibility
from bot.domain.job import Job
from bot.engine.protocol import Picture
from bot.errors import StorageRefused
from bot.fleet.attempt import keep
from bot.jobs.queue import JobQueue
from bot.pictures.grid import make_grid
from storage import form_states
from storage.backup import copy_database
from storage.database import Database
from storage.input_pictures import GivenInputs
from storage.migrate import read_migrations
from tests.engines import PREVIEW
from tests.faults.scenario import CONTENT, GIVEN, JOB, NEW, OLD, Scenario
from tests.jobs.kit import MODEL, PLENTY, Clock, make_origin, make_request, submit


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
        self.names = (await self.store.inputs.keep(JOB, GIVEN)).names

    async def check(self, *, done: bool) -> None:
        # Of several the first may stay: whoever could not submit the job deletes what is there.
        shown = self.shown()
        assert set(shown.values()) <= {NEW}
        if done:
            assert set(shown) == {f"inputs/{name}" for name in self.names}


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


class KeepState(WithDatabase):
    """The state of an open form is kept, with those before it, or it is not there."""

    async def set_up(self) -> None:
        await super().set_up()
        self.tries = 0

    async def act(self) -> None:
        self.tries += 1
        key = f"{self.tries:018}"
        keep = partial(form_states.keep, key=key, user_id=1, state="x" * 9000, now=0.0)
        await self.database.write(keep)

    async def check(self, *, done: bool) -> None:
        key = f"{self.tries:018}"
        found = await self.database.read(partial(form_states.find, key=key, user_id=1))
        assert found == ("x" * 9000 if done else None)
        assert await self.count("form_states") <= form_states.KEPT_A_USER


class Accept(WithDatabase):
    """A request with a picture to start from is accepted: with both, or with nothing."""

    async def set_up(self) -> None:
        await super().set_up()
        unseen = Visibility(cast("Any", None), cast("Any", None))
        self.intake = Intake(
            self.database, self.queue, self.store, cast("Any", None), FetchSlots(), unseen
        )
        self.made = 0

    async def act(self) -> None:
        request = make_request(strength=0.5)

        async def gather() -> Gathered:
            return Gathered(request, GivenInputs(image=NEW))

        try:
            await self.intake._submit(request, make_origin(), None, gather)
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
            assert shown.pop(f"inputs/{job.request.input_image}") == NEW
        # What could not be deleted again either is no job's, and goes at the next start.
        await Gallery(self.database, self.store, self.queue).start()
        assert len(self.shown()) == self.made
        assert done or len(shown) <= 1


class Delete(WithDatabase):
    """A user deletes a picture: it is there, or it is known to be gone."""

    async def begin(self) -> None:
        self.job = await self.drawn()
        self.gallery = Gallery(self.database, self.store, self.queue, clock=Clock())

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
            await Gallery(self.database, self.store, self.queue).start()
            assert self.shown() == {}
            assert await self.queue.images(job.id) == []


class KeepText(WithDatabase):
    """What was written is kept with its job's end, or neither is."""

    async def begin(self) -> None:
        await submit(self.queue, writes="enhance")
        self.job = await self.queue.get()

    async def act(self) -> None:
        commits = self.queue.commits
        await commits.record_generated(self.job, [], {"write": 1.0}, None, MODEL, text="words")

    async def check(self, *, done: bool) -> None:
        job = await self.queue.job(self.job.id)
        assert job is not None
        assert job.text == ("words" if job.state.final else None)
        assert job.state.final or not done


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
        gallery = Gallery(cast("Any", None), self.store, cast("Any", None))
        self.found = list(gallery.files([*self.records, None]))
        self.grid = make_grid(map(self.store.read, self.records))

    async def check(self, *, done: bool) -> None:
        assert set(self.found) <= {PREVIEW, None}
        assert self.found.count(PREVIEW) >= (2 if done else 0)
        assert not done or self.grid.startswith(b"\x89PNG")


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
        await self.store.inputs.keep(job.id, GivenInputs(OLD))
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
        KeepBatch, KeepInput, KeepForm, KeepState, Commit, Accept, Delete, KeepText, Read, Copy,
        BackUp, Start
    )
}  # fmt: skip
