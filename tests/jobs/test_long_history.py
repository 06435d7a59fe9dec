"""A long history: looked through and deleted in parts, and nothing falls between two of them."""

from __future__ import annotations

from functools import partial
from itertools import chain

import pytest

from bot.archive import privacy as privacy_module
from bot.archive.gallery import Gallery
from bot.archive.privacy import Privacy
from bot.domain.job import Target
from bot.rules.preferences import Preferences
from storage import deliveries, gallery
from storage.input_pictures import GivenInputs
from tests.jobs.kit import finish, make_origin, make_request, one, submit

JOBS = 23


@pytest.fixture
async def history(queue, database, store, clock, monkeypatch):
    """A user's jobs: every third one failed to become a picture; every fifth one has a cat."""
    monkeypatch.setattr(gallery, "SCANNED", 4)
    monkeypatch.setattr(gallery, "_SCANNED_UNREAD", 4)
    for number in range(JOBS):
        clock.now += 60
        job = await submit(queue, prompt=f"{'cat' if number % 5 == 0 else 'dog'} {number}")
        if number % 3:
            await finish(queue, await queue.get())
        else:
            await queue.cancel(job.id, by=1)
    return Gallery(database, store, queue, clock=clock)


def numbers(page) -> list[int]:
    return [int(job.request.prompt.split()[1]) for job in page.jobs]


async def test_every_page_there_and_back(history):
    drawn = [number for number in reversed(range(JOBS)) if number % 3]
    page, seen = await history.page(1, 5), []
    assert not page.newer
    while True:
        seen.append(numbers(page))
        if not page.older:
            break
        page = await history.page(1, 5, before=page.jobs[-1].id)
        assert page.newer
    assert [*chain(*seen)] == drawn
    back = [seen[-1]]
    while page.newer:
        page = await history.page(1, 5, after=page.jobs[0].id)
        back.append(numbers(page))
    assert [*chain(*reversed(back))] == drawn


async def test_words_are_found_however_far_back(history):
    page = await history.page(1, 3, text="CAT")
    assert (numbers(page), page.older) == ([20, 10, 5], False)
    assert numbers(await history.page(1, 1, text="cat 5")) == [5]
    assert (await history.page(1, 3, text="zebra")).jobs == []
    assert (await history.page(2, 3)).jobs == []


async def test_completion_looks_at_the_newest(history):
    assert len(await history.latest(1, "", 25)) == 4
    assert [job.request.prompt for job in await history.latest(1, "cat", 25)] == ["cat 20"]


async def test_all_of_it_is_deleted_in_parts(history, queue, database, store, monkeypatch):
    monkeypatch.setattr(privacy_module, "_AT_ONCE", 4)
    waiting = await submit(queue)
    await database.write(
        lambda tx: tx.execute("UPDATE deliveries SET sent_channel_id = 1, sent_message_id = rowid")
    )
    deleted = await Privacy(database, store, Preferences(database), queue).delete(1)
    assert (deleted.jobs, deleted.still_open) == (JOBS, 1)
    # The one that waits is not among them.
    assert len({message for _, message in deleted.messages}) == JOBS
    assert await one(database, "SELECT id FROM jobs") == waiting.id


async def test_what_is_kept_is_told_newest_first_and_to_its_user_alone(queue, database, clock):
    kept = []
    for user, target in ((1, Target.MESSAGE), (2, Target.MESSAGE), (1, Target.HTTP)) * 3:
        clock.now += 1
        origin = make_origin(user, target=target)
        job = (await queue.submit(make_request(), origin)).job
        await finish(queue, await queue.get())
        await database.write(partial(deliveries.intend, job_id=job.id, rung="kept", now=clock.now))
        await database.write(partial(deliveries.undeliverable, job_id=job.id, error=None))
        kept += [job.id] if (user, target) == (1, Target.MESSAGE) else []
    assert await database.read(partial(deliveries.kept_for, user_id=1)) == kept[::-1]
    await database.write(partial(gallery.mark_deleted, job_id=kept[1], now=clock.now))
    await database.write(partial(deliveries.fetched, job_id=kept[2], now=clock.now))
    assert await database.read(partial(deliveries.kept_for, user_id=1)) == kept[:1]


async def test_pictures_without_a_job_go_at_the_start_and_no_others(
    queue, database, store, monkeypatch
):
    monkeypatch.setattr("bot.archive.gallery._AT_ONCE", 2)
    names = {}
    for number in range(5):
        job_id = queue.new_job_id()
        names[job_id] = (await store.inputs.keep(job_id, GivenInputs(b"picture"))).input_image
        if number < 3:
            request = make_request(input_image=names[job_id], strength=0.5)
            await queue.submit(request, make_origin(number), job_id=job_id)
    await Gallery(database, store, queue).start()
    assert store.inputs.job_ids() == set(list(names)[:3])
