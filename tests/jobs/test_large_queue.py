"""A queue of hundreds of jobs from hundreds of servers costs what its length says, not more."""

from __future__ import annotations

import random
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.job import JobState
from bot.jobs.costs import Costs, ModelCost
from bot.jobs.outlook import Outlook
from bot.jobs.schedule import running_order
from storage import jobs, usage
from storage.jobs import Unfinished
from storage.migrate import MIGRATIONS
from storage.usage import Served
from tests.jobs.plain import plain_order

ADD_USAGE = (
    "INSERT INTO usage (job_id, user_id, guild_id, charged_at, images, gpu_seconds, served_at)"
    " VALUES (?, ?, ?, 0, 1, 60, 1)"
)
ADD_JOB = (
    "INSERT INTO jobs (id, source_id, user_id, guild_id, target, request, seed, images, work,"
    " created_at) VALUES (?1, ?1, ?2, ?3, 'cli', '', 0, 1, 40, ?1)"
)


NO_ENGINE = Outlook(0.0, Costs({"": ModelCost(1.0)}), None, False, lambda _: 0.0, [])


def instructions(connection: sqlite3.Connection, sql: str, params: object) -> int:
    """Return how many thousand instructions of SQLite's machine a query takes."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    connection.set_progress_handler(count, 1000)
    connection.execute(sql, params).fetchall()
    connection.set_progress_handler(None, 0)
    return taken


@pytest.mark.parametrize(
    ("sql", "params"),
    [
        (jobs.UNFINISHED, ()),
        (usage.SERVED, {"since": 0.0, "until": 9.0}),
    ],
)
def test_the_cost_grows_with_the_queue_and_not_with_its_product_with_the_hour(sql, params):
    def cost(waiting: int, served: int) -> int:
        connection = sqlite3.connect(":memory:")
        for file in sorted(MIGRATIONS.glob("*.sql")):
            connection.executescript(file.read_text(encoding="utf-8"))
        generator = random.Random(1)
        for number in range(served):
            whose = (generator.randrange(9000), generator.randrange(300))
            connection.execute(ADD_USAGE, (str(number), *whose))
        for number in range(waiting):
            whose = (generator.randrange(9000), generator.randrange(300))
            connection.execute(ADD_JOB, (str(number), *whose))
        return instructions(connection, sql, params)

    alone = cost(1, 2000) + cost(200, 1)
    assert cost(200, 2000) < 3 * alone


one_job = st.tuples(
    st.integers(1, 5),
    st.integers(1, 4),
    st.sampled_from([0.0001, 1.0, 5.0, 33.3]),
    st.sampled_from([0.5, 1.0, 1.0, 10.0]),
)
seconds = st.sampled_from([0.0, 10.0, 33.3, 100.0])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(one_job, max_size=25),
    st.dictionaries(st.integers(1, 5), seconds),
    st.dictionaries(st.integers(1, 4), seconds),
)
def test_the_order_is_the_rule_played_forward(pile, users, servers):
    waiting = [
        Unfinished(str(number), user, server, JobState.QUEUED, work, weight, None)
        for number, (user, server, work, weight) in enumerate(pile)
    ]
    served = Served(users, servers)
    assert running_order(waiting, served, NO_ENGINE) == plain_order(waiting, served)
