"""Fair between servers, between users by the weights of their roles, and as predicted."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.rules.server_limits import RoleLimit, ServerLimits
from storage import people
from tests.jobs.kit import Clock, finish, make_origin, make_request, one, open_queue

EAST, WEST, DIRECT = 77, 78, None
HEAVY, LIGHT = 501, 502
WEIGHTS = ServerLimits(roles={HEAVY: RoleLimit(weight=4.0), LIGHT: RoleLimit(weight=0.5)})


async def ask(queue, user_id, server=EAST, *, roles=(), **changes):
    origin = make_origin(user_id, guild_id=server, role_ids=frozenset(roles))
    return (await queue.submit(make_request(**changes), origin)).job


async def set_limits(database, clock, *servers, limits=WEIGHTS):
    for server in servers:
        values = {"limits": limits.to_values()}
        await database.write(
            lambda tx, server=server, values=values: people.put(
                tx, "guilds", server, values, clock.now
            )
        )


async def draw(queue, clock, rate=1.0):
    job = await queue.get()
    seconds = job.request.megapixel_steps * rate
    clock.now += seconds
    await finish(queue, job, seconds)
    return job


async def test_a_hundred_jobs_delay_another_users_one_by_the_running_one_at_most(queue, clock):
    pile = [await ask(queue, 1) for _ in range(100)]
    running = await queue.get()
    for place in (EAST, WEST, DIRECT):
        single = await ask(queue, 2, place)
        assert (await queue.place(single.id)).ahead == 1
        await finish(queue, running)
        assert (await queue.get()).id == single.id
        await queue.cancel(single.id, by=2)
        await queue.commits.record_cancelled(await queue.job(single.id), drawn=0.0)
        running = await queue.get()
        assert running.user_id == 1
    assert len(await queue.open_jobs()) == len(pile) - 3


async def test_a_full_server_does_not_starve_another(queue, clock):
    """Twenty users of one server share with one user of another: by turns, not one in 21."""
    for user in range(100, 120):
        for _ in range(2):
            await ask(queue, user, EAST)
    for _ in range(6):
        await draw(queue, clock)
    for _ in range(10):
        await ask(queue, 1, WEST)
    turns = [(await draw(queue, clock)).guild_id for _ in range(24)]
    # The other one catches up with the six first, then they alternate.
    assert turns[:6] == [WEST] * 6
    assert turns[6:14].count(WEST) == 4
    assert turns[14:] == [EAST] * 10


async def test_many_servers_of_one_user_count_as_one(queue, clock):
    for server in range(1000, 1020):
        for _ in range(2):
            await ask(queue, 1, server)
    for user in range(2, 22):
        await ask(queue, user, EAST)
    turns = [(await draw(queue, clock)).guild_id == EAST for _ in range(40)]
    assert turns.count(True) == 20
    assert 9 <= turns[:20].count(True) <= 11


async def test_all_direct_messages_count_as_one_server(queue, clock):
    for user in range(2, 22):
        await ask(queue, user, DIRECT)
    for _ in range(10):
        await ask(queue, 1, EAST)
    turns = [(await draw(queue, clock)).guild_id for _ in range(20)]
    assert turns.count(EAST) == 10


async def test_role_weights_share_a_server_out(queue, database, clock):
    await set_limits(database, clock, EAST)
    for _ in range(20):
        await ask(queue, 1, roles=(HEAVY, LIGHT))
        await ask(queue, 2)
        await ask(queue, 3, roles=(LIGHT,))
    users = [(await draw(queue, clock)).user_id for _ in range(22)]
    # 4 to 1 to 1/2, the highest of several roles counts.
    assert [users.count(user) for user in (1, 2, 3)] == pytest.approx([16, 4, 2], abs=1)


async def test_weights_change_nothing_between_servers(queue, database, clock):
    await set_limits(database, clock, WEST)
    for _ in range(10):
        await ask(queue, 1, EAST)
        await ask(queue, 2, WEST, roles=(HEAVY,))
    servers = [(await draw(queue, clock)).guild_id for _ in range(10)]
    assert servers.count(EAST) == servers.count(WEST) == 5


async def test_what_was_really_spent_counts_refunded_or_not(queue, database):
    await ask(queue, 1)
    job = await queue.get()
    await queue.cancel(job.id, by=1)
    await queue.commits.record_cancelled(job, spent_s=9.0, drawn=0.25)
    assert await one(database, "SELECT refunded FROM usage") == 0.75
    assert await one(database, "SELECT gpu_seconds FROM usage") == 9.0
    later = await ask(queue, 1)
    other = await ask(queue, 2)
    assert [job.id for job in await queue.open_jobs()] == [other.id, later.id]


async def test_a_job_that_waited_long_counts_when_it_is_served(queue, clock):
    pile = [await ask(queue, 1) for _ in range(3)]
    clock.now += 2 * 3600
    await draw(queue, clock)
    single = await ask(queue, 2)
    assert [job.id for job in await queue.open_jobs()] == [single.id, pile[1].id, pile[2].id]


# Whose, where, with which roles, steps and pictures; after so many submissions some are drawn.
crowds = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.sampled_from([EAST, WEST, DIRECT]),
        st.sampled_from([(), (HEAVY,), (LIGHT,), (HEAVY, LIGHT)]),
        st.integers(1, 6),
        st.integers(1, 4),
        st.sampled_from([0, 0, 0, 1]),
    ),
    min_size=3,
    max_size=14,
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(crowds, st.sampled_from([0.5, 3.0, 40.0]), st.booleans())
def test_the_order_is_predicted_with_servers_and_weights(crowd, rate, running):
    async def run(folder: Path) -> None:
        clock = Clock()
        async with open_queue(folder, clock=clock) as (queue, database):
            await set_limits(database, clock, EAST, WEST)
            # A measured history, so that the expected costs are the true ones.
            await ask(queue, 99)
            await draw(queue, clock, rate)
            for user, server, roles, steps, count, draws in crowd:
                await ask(queue, user, server, roles=roles, steps=steps, count=count)
                for _ in range(draws):
                    if await queue.open_jobs():
                        await draw(queue, clock, rate)
            drawing = await queue.get() if running and await queue.open_jobs() else None
            predicted = [job.id for job in await queue.open_jobs()]
            if drawing:
                assert predicted.pop(0) == drawing.id
                seconds = drawing.request.megapixel_steps * rate
                clock.now += seconds
                await finish(queue, drawing, seconds)
            assert [(await draw(queue, clock, rate)).id for _ in predicted] == predicted

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from([EAST, WEST, DIRECT]), st.integers(1, 4)),
        min_size=2,
        max_size=20,
    )
)
def test_no_server_gets_far_ahead(crowd):
    """While two servers both wait, their served times differ by at most one job's cost."""

    async def run(folder: Path) -> None:
        clock = Clock()
        async with open_queue(folder, clock=clock) as (queue, _):
            for user, server, count in crowd:
                # Nobody is in two servers: who is counts for what they had everywhere.
                await ask(queue, user + 100 * (server or 0), server, count=count)
            served = dict.fromkeys((EAST, WEST, DIRECT), 0.0)
            while waiting := {job.guild_id for job in await queue.open_jobs()}:
                shares = [served[server] for server in waiting]
                biggest = make_request(count=4).megapixel_steps
                assert max(shares) - min(shares) <= biggest + 1e-6
                job = await draw(queue, clock)
                served[job.guild_id] += job.request.megapixel_steps

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))
