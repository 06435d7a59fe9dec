"""The transition tables in code and the triggers in SQL say the same."""

from __future__ import annotations

import itertools
import sqlite3

import pytest

from bot.domain.job import DELIVERY_TRANSITIONS, TRANSITIONS, DeliveryState, JobState
from storage.database import Database

PAIRS = [
    *(("jobs", "id", old, new, TRANSITIONS) for old, new in itertools.product(JobState, repeat=2)),
    *(
        ("deliveries", "job_id", old, new, DELIVERY_TRANSITIONS)
        for old, new in itertools.product(DeliveryState, repeat=2)
    ),
]


async def test_every_pair_of_states(database: Database):
    for number, (table, key, old, new, allowed) in enumerate(PAIRS):
        job_id = f"job{number}"
        state = old if table == "jobs" else JobState.QUEUED
        insert = (
            "INSERT INTO jobs (id, source_id, user_id, target, request, seed, images, work, state,"
            " created_at) VALUES (?1, ?1, 1, 'cli', '{}', 0, 1, 1, ?2, 0)"
        )
        deliver = "INSERT INTO deliveries (job_id, state) VALUES (?, ?)"
        update = f"UPDATE {table} SET state = ? WHERE {key} = ?"
        await database.write(lambda tx, p=(job_id, state), sql=insert: tx.execute(sql, p))
        if table == "deliveries":
            await database.write(lambda tx, p=(job_id, old), sql=deliver: tx.execute(sql, p))
        change = database.write(lambda tx, p=(new, job_id), sql=update: tx.execute(sql, p))
        if new is old or new in allowed[old]:
            assert await change == 1
        else:
            with pytest.raises(sqlite3.IntegrityError, match="transition not allowed"):
                await change
