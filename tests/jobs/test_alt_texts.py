"""Alternative texts and the deletion of the pictures that they are about."""

from __future__ import annotations

import pytest

from bot.archive.gallery import Gallery
from bot.archive.privacy import Privacy
from bot.domain.job import Job, JobState, Target
from bot.domain.request import ImageRequest
from bot.jobs.with_picture import holding, submit_with_picture
from bot.rules.preferences import Preferences
from storage.input_pictures import GivenInputs
from storage.texts import alt_source
from tests.jobs.kit import finish, make_origin, make_request, one, submit


@pytest.fixture
async def drawn(queue) -> Job:
    job = await submit(queue)
    await finish(queue, await queue.get())
    return await queue.job(job.id)


@pytest.fixture
async def alt(queue, store, drawn) -> Job:
    """A job that waits to write about what was drawn, with its copy of it."""
    job_id = queue.new_job_id()
    request = make_request(writes="alt", parent=drawn.id, references=("reference1",))
    origin = make_origin(1, source_id=alt_source(drawn.id), target=Target.CLI)

    async def prepare() -> ImageRequest:
        given = GivenInputs(references=(b"the picture",))
        return holding(request, await store.inputs.keep(job_id, given))

    made = await submit_with_picture(queue, store.inputs, request, origin, prepare, job_id=job_id)
    return made.job


@pytest.fixture
def gallery(database, store, queue, clock) -> Gallery:
    return Gallery(database, store, queue, clock=clock)


async def write(queue, job) -> bool:
    record = queue.commits.record_generated
    return await record(job, [], {"write": 1.0}, None, "tiny-edit", text="a grey square")


async def test_a_text_that_comes_after_its_picture_was_deleted_is_not_kept(
    queue, database, drawn, alt, gallery
):
    running = await queue.get()
    stopped: list[str] = []
    queue.on_cancel.append(stopped.append)
    await gallery.delete(drawn, by=1)
    assert stopped == [running.id]
    # The engine may be done before it hears of that.
    assert await write(queue, running)
    assert await queue.alt_text(drawn.id) is None
    assert await one(database, "SELECT count(*) FROM texts") == 0


async def test_one_that_comes_before_is_kept_and_goes(queue, drawn, alt, gallery):
    assert await write(queue, await queue.get())
    assert await queue.alt_text(drawn.id) == "a grey square"
    await gallery.delete(drawn, by=1)
    assert await queue.alt_text(drawn.id) is None


@pytest.mark.parametrize("running", [False, True])
async def test_what_is_deleted_is_in_no_copy_and_nobody_writes_of_it(
    queue, store, drawn, alt, gallery, running
):
    if running:
        await queue.get()
    assert store.inputs.job_ids() == {alt.id}
    with queue.feed.subscribe() as updates:
        await gallery.delete(drawn, by=1)
        if not running:
            told = [await anext(updates) for _ in range(1)]
            assert [(update.job_id, update.kind) for update in told] == [(alt.id, "final")]
    assert store.inputs.job_ids() == set()
    row = await queue.job(alt.id)
    if running:
        assert (row.state, row.cancel_requested_at is None) == (JobState.RUNNING, False)
    else:
        assert row.state is JobState.CANCELLED


async def test_a_deletion_that_was_cut_off_takes_the_copies_at_the_next_start(
    queue, database, store, clock, drawn, alt, gallery
):
    work = store.work_dir(drawn.id) / "0.png"
    work.write_bytes(b"the picture")
    kept = await store.keep(drawn.id, 0, work, width=1, height=1, seed=1)
    await database.write(
        lambda tx: tx.execute(
            "INSERT INTO images (job_id, position, file, sha256, size_bytes, width, height, seed)"
            " VALUES (?, 0, ?, ?, 1, 1, 1, 1)",
            (drawn.id, kept.file, kept.sha256),
        )
    )
    await database.write(
        lambda tx: tx.execute("UPDATE jobs SET deleted_at = 1 WHERE id = ?", (drawn.id,))
    )
    await gallery.start()
    assert store.inputs.job_ids() == set()


@pytest.mark.parametrize("running", [False, True])
async def test_whoever_deletes_all_leaves_no_job_that_they_do_not_know_of(
    queue, database, store, drawn, alt, running
):
    privacy = Privacy(database, store, Preferences(database), queue)
    if running:
        await queue.get()
    deleted = await privacy.delete(1)
    assert deleted.still_open == 0
    assert store.inputs.job_ids() == set()
    assert await one(database, "SELECT count(*) FROM users") == 0
    left = await database.read(lambda tx: tx.all("SELECT id FROM jobs"))
    # What runs is told to stop, and deleted with its end by whoever delivers (tests/wire).
    assert [row["id"] for row in left] == ([alt.id] if running else [])
