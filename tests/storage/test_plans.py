"""How SQLite finds what a command asks for: by index, however many jobs there were."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial

from typing_extensions import override

from storage import (
    blocks,
    clock,
    deliveries,
    gallery,
    jobs,
    lineage,
    listing,
    metrics,
    privacy,
    reports,
    statistics,
    texts,
    usage,
)
from storage.database import Database, Transaction
from storage.listing import JobFilter
from storage.usage import QuotaScope, Window

NOW = 1_800_000_000.0
DAY = Window(NOW, 86_400.0)
SOME = "0123456789abcdef00"

Asked = Callable[[Transaction], Awaitable[object]]
ASKED: dict[str, Asked] = {
    "a job": partial(jobs.find, job_id=SOME),
    "a source": partial(jobs.find_source, source_id="i1"),
    "all open": jobs.find_open,
    "a user's open": partial(jobs.find_open, user_id=1),
    "a server's waiting": partial(jobs.waiting_in_guild, guild_id=1),
    "unfinished": jobs.unfinished,
    "passed over": partial(jobs.pass_over, job_ids=[SOME], seconds=9.0),
    "waiting": jobs.count_queued,
    "a server's count": partial(jobs.count_waiting_of, guild_id=1),
    "any open": jobs.any_open,
    "a user's count": partial(jobs.count_open, user_id=1),
    "history of rates": partial(jobs.history, model="tiny"),
    "a job's pictures": partial(jobs.find_images, job_id=SOME),
    "served": partial(usage.served, window=DAY),
    "last charge": partial(usage.last_charge, user_id=1, now=NOW),
    **{
        f"{what.__name__} {scope}": partial(what, scope=scope, user_id=1, guild_id=2, window=DAY)
        for what in (usage.total, usage.charges)
        for scope in QuotaScope
    },
    "outbox": partial(deliveries.outlook, now=NOW, limit=4),
    "a delivery": partial(deliveries.get, job_id=SOME),
    "removals": partial(deliveries.removals, now=NOW, limit=4),
    "kept": partial(deliveries.kept_for, user_id=1),
    "expired tokens": partial(deliveries.forget_expired_tokens, now=NOW),
    "pictures": partial(gallery.part, user_id=1, limit=9),
    "older pictures": partial(gallery.part, user_id=1, limit=9, edge=SOME, text="cat"),
    "newer pictures": partial(gallery.part, user_id=1, limit=9, edge=SOME, older=False),
    "last of a channel": partial(gallery.last_in_channel, user_id=1, channel_id=2),
    "completion": partial(gallery.latest, user_id=1, text="cat", limit=25),
    "a page of jobs": partial(
        listing.page, user_id=1, wanted=JobFilter(since=NOW, until=NOW), limit=9, edge=SOME
    ),
    "what jobs took": partial(usage.spent, job_ids=[SOME]),
    "some jobs": partial(jobs.find_all, job_ids=[SOME]),
    "some jobs' pictures": partial(jobs.images_of_all, job_ids=[SOME]),
    "families": partial(lineage.family, user_id=1, limit=9, job_ids=[SOME]),
    "half deleted": gallery.half_deleted,
    "what writes of pictures": partial(texts.alt_jobs, job_ids=[SOME]),
    "what is written of for a user": partial(texts.awaiting_alt, user_id=1),
    "texts": partial(texts.add, job_id=SOME, text="x"),
    "with inputs": partial(gallery.with_inputs, job_ids=[SOME]),
    "day": partial(statistics.jobs_of_day, guild_id=None, day="x", since=NOW),
    "server's day": partial(statistics.jobs_of_day, guild_id=1, day="x", since=NOW),
    "waits": partial(statistics.waits, guild_id=1, since=NOW),
    "busy": partial(statistics.busy, guild_id=1, since=NOW),
    "spent": partial(statistics.spent_on_day, guild_id=1, since=NOW),
    "last fault": statistics.last_fault,
    "last peak": statistics.last_peak,
    "depth": metrics.depth,
    "peak": partial(metrics.peak_gpu_bytes, job_id=SOME),
    "a user's ended": partial(privacy.final_jobs, user_id=1, limit=9),
    "a user's not ended": partial(privacy.open_job_ids, user_id=1),
    "outdated": partial(privacy.outdated, before=NOW, limit=9),
    "messages": partial(privacy.messages, job_ids=[SOME]),
    "ledger": partial(privacy.prune_ledger, before=NOW),
    "reports": partial(reports.of_job, job_id=SOME),
    "a user's reports": partial(reports.count_since, reporter_id=1, since=NOW),
    "what a block drops": partial(blocks.waiting_jobs, user_id=1, guild_id=2),
    "forbidden": partial(blocks.forbidden_jobs, now=NOW),
    "one forbidden": partial(blocks.forbidden_jobs, now=NOW, job_id=SOME),
    "clock": partial(clock.put_stamps_right, now=NOW),
    "clock's step": partial(clock.move_waits, seconds=9.0),
}
# Tables that grow with every job; and the indices of few rows, all of which may be gone through.
LARGE = re.compile(r"SCAN (jobs|j|deliveries|d|usage|u|images|postings)\b")
SMALL = {"jobs_open", "jobs_open_user", "jobs_open_guild", "jobs_deleted", "deliveries_due"}
SMALL |= {"deliveries_token", "deliveries_remove"}
# What is sorted although no index gives the order: few rows.
SORTED = {
    "all open": "open jobs",
    "a user's open": "open jobs",
    "unfinished": "open jobs",
    "served": "sums of an hour",
    "pictures": "jobs of one moment",
    "older pictures": "jobs of one moment",
    "newer pictures": "jobs of one moment",
    "a page of jobs": "jobs of one moment",
    "families": "jobs of one moment",
    "waits": "the newest 20,000",
    "spent": "sums of a day",
    "last fault": "the newest 1,000",
    "messages": "of one job",
    "reports": "of one job",
}


class Planned(Transaction):
    """Notes the plan of each statement instead of running it."""

    def __init__(self, within: Transaction) -> None:
        super().__init__(within._connection)
        self.plans: list[str] = []

    async def _plan(self, sql, params) -> None:
        rows = await super().all(f"EXPLAIN QUERY PLAN {sql}", params)
        self.plans += [row["detail"] for row in rows]

    @override
    async def execute(self, sql, params=()) -> int:
        await self._plan(sql, params)
        return await super().execute(sql, params)

    @override
    async def all(self, sql, params=()):
        await self._plan(sql, params)
        return await super().all(sql, params)


async def plans_of(database: Database, asked: Asked) -> list[str]:
    async def note(tx: Transaction) -> list[str]:
        planned = Planned(tx)
        await asked(planned)
        return planned.plans

    return await database.write(note)


def scanned(plan: list[str]) -> list[str]:
    """The lines of a plan that go through all of a large table, or of an index of it."""
    return [
        line for line in plan if LARGE.match(line) and not (set(re.findall(r"\w+", line)) & SMALL)
    ]


async def test_no_question_goes_through_all_jobs(opened, tmp_path):
    database = await opened(tmp_path / "bot.sqlite3")
    plans = {name: await plans_of(database, asked) for name, asked in ASKED.items()}
    assert all(plans.values())
    through_all = {name: lines for name, plan in plans.items() if (lines := scanned(plan))}
    # The newest thousand jobs, in the index's own order.
    assert through_all == {"last fault": ["SCAN jobs USING INDEX jobs_created"]}
    sorting = {name for name, plan in plans.items() if any("TEMP B-TREE" in line for line in plan)}
    assert sorting == set(SORTED)


async def test_what_is_looked_for_is_seen(opened, tmp_path):
    database = await opened(tmp_path / "bot.sqlite3")
    for sql in (
        "SELECT * FROM jobs WHERE work > 1",
        "SELECT count(*) FROM jobs",
        "SELECT j.id FROM jobs AS j JOIN deliveries AS d ON d.job_id = j.id",
        "SELECT * FROM usage ORDER BY gpu_seconds",
    ):
        plan = await plans_of(database, lambda tx, sql=sql: tx.all(sql))
        assert scanned(plan), plan
