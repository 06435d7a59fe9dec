"""Quotas in pictures and GPU seconds over the real queue: who, where, how much, and until when."""

from __future__ import annotations

import asyncio

import pytest

from bot.domain.job import Target
from bot.errors import LimitReached, QueueClosed
from bot.jobs.queue import JobQueue
from bot.rules.limits import DAY_S, Limits
from bot.rules.server_limits import Bounds, RoleLimit, ServerLimits
from storage import people
from tests.jobs.kit import MODEL, finish, make_origin, make_request, one, refused

GUILD, ROLE, OTHER_ROLE = 77, 501, 502


@pytest.fixture
def make(database, clock):
    def make(**limits) -> JobQueue:
        values = {"open_jobs": 1000, "images_per_day": 1000, **limits}
        return JobQueue(database, Limits(**values), model=MODEL, clock=clock)

    return make


async def ask(queue, user_id=1, count=1, **origin):
    return (await queue.submit(make_request(count=count), make_origin(user_id, **origin))).job


async def set_server(database, clock, limits):
    values = {"limits": limits.to_values()}
    await database.write(lambda tx: people.put(tx, "guilds", GUILD, values, clock.now))


async def test_a_hundred_at_once_against_three_pictures_a_day(make, database):
    queue = make(images_per_day=3)
    results = await asyncio.gather(*(ask(queue) for _ in range(100)), return_exceptions=True)
    assert sum(isinstance(result, LimitReached) for result in results) == 97
    assert await one(database, "SELECT sum(images) FROM usage") == 3


async def test_seconds_count_once_they_are_measured_and_come_back_in_a_day(make, clock):
    queue = make(gpu_seconds_per_day=10)
    # Nothing is measured yet: pictures alone count.
    for _ in range(5):
        await ask(queue)
    await finish(queue, await queue.get(), seconds=3.0)
    start = clock.now
    await ask(queue, count=2)
    clock.now += 60
    await ask(queue)
    with refused(LimitReached, match=r"1 s of 10 s of graphics card time left; .* 3 s") as held:
        await ask(queue)
    assert held.value.retry_at == start + DAY_S
    with refused(LimitReached, match="more than a whole day's limit") as never:
        await ask(queue, count=4)
    assert never.value.retry_at is None
    await ask(queue, user_id=2, count=3)
    clock.now = held.value.retry_at
    with pytest.raises(LimitReached):
        await ask(queue, count=3)
    await ask(queue, count=2)


async def test_the_share_that_was_not_drawn_comes_back_once(make, database):
    queue = make(images_per_day=4)
    await ask(queue, count=4)
    job = await queue.get()
    await queue.cancel(job.id, by=1)
    assert await queue.commits.record_cancelled(job, spent_s=1.0, drawn=0.3)
    assert not await queue.commits.record_cancelled(job, drawn=0.0)
    assert await one(database, "SELECT refunded FROM usage") == pytest.approx(0.7)
    # 1.2 of 4 are used.
    with refused(LimitReached, match="You have 2 of 4"):
        await ask(queue, count=3)
    await ask(queue, count=2)


async def test_direct_messages_have_a_limit_of_their_own_and_programs_do_not(make):
    queue = make(dm_images_per_day=2)
    await ask(queue, count=2, guild_id=None)
    for target in (Target.MESSAGE, Target.INTERACTION):
        with refused(LimitReached, match="In direct messages you have 0 of 2"):
            await ask(queue, guild_id=None, target=target)
    await ask(queue, guild_id=None, target=Target.HTTP)
    await ask(queue)


async def test_a_servers_members_share_its_limit_and_its_place_in_the_queue(make):
    queue = make(server_images_per_day=3, server_queue_size=3)
    for user in (1, 2):
        await ask(queue, user)
    with refused(LimitReached, match="together have 1 of 3"):
        await ask(queue, 3, count=2)
    await ask(queue, 3)
    with refused(QueueClosed, match="This server has 3 jobs waiting"):
        await ask(queue, 4)
    await ask(queue, 4, guild_id=78)


async def test_the_highest_role_wins_and_only_a_grant_exceeds_the_owners_limit(
    make, database, clock
):
    roles = {
        GUILD: RoleLimit(Bounds(images=1)),
        ROLE: RoleLimit(Bounds(images=50)),
        OTHER_ROLE: RoleLimit(Bounds(images=6), granted=True),
    }
    await set_server(database, clock, ServerLimits(roles=roles))
    queue = make(images_per_day=4)
    cases = {(): 1, (ROLE,): 4, (OTHER_ROLE,): 6, (ROLE, OTHER_ROLE): 6}
    for user, (held, limit) in enumerate(cases.items(), 1):
        for _ in range(limit):
            await ask(queue, user, role_ids=frozenset(held))
        with pytest.raises(LimitReached):
            await ask(queue, user, role_ids=frozenset(held))
    # Elsewhere nothing of it holds.
    await ask(queue, 1, guild_id=78)
    with pytest.raises(LimitReached):
        await ask(queue, 3, guild_id=78)


@pytest.mark.parametrize("stored", [None, 7, [], {"roles": {"x": 1, "5": {"images": "many"}}}])
def test_unreadable_settings_limit_nothing(stored):
    read = ServerLimits.read({"limits": stored})
    assert read.server.empty
    assert read.member({5}, Bounds()).empty
