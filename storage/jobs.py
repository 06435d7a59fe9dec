"""The tables `jobs` and `images`: the queue, its order, and what became of each job."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bot.domain.job import ImageRecord, Job, JobState, Origin, Target
from bot.domain.request import ImageRequest
from bot.errors import UserError
from storage.database import Transaction

# The index `jobs_open` is partial: SQLite uses it only where its own condition is repeated.
_OPEN: Final = "state IN ('queued', 'running')"

_COLUMNS: Final = """
    id, user_id, guild_id, channel_id, target, request, state, created_at, started_at, finished_at,
    attempts, claims, engine_faults, interruptions, cancel_requested_at, error, error_kind, model,
    timings, seed, private, locale, parent_id, parent_channel_id, deleted_at,
    (SELECT text FROM texts WHERE job_id = jobs.id) AS text
"""

UNFINISHED: Final = f"""
SELECT id, user_id, coalesce(guild_id, 0) AS server, state, work, weight, started_at, model,
    passed_s, tokens FROM jobs
WHERE {_OPEN} ORDER BY created_at, rowid
"""

# Only the newest jobs are looked at, so that a long history of another model costs nothing.
_HISTORY: Final = """
SELECT work, timings FROM (
    SELECT work, timings, state, model, kind FROM jobs WHERE finished_at IS NOT NULL
    ORDER BY finished_at DESC LIMIT 100
) WHERE state = 'generated' AND kind = 'picture' AND model = ? LIMIT 20
"""
# A picture whose prompt was rewritten before says how long that took.
_WRITTEN: Final = """
SELECT tokens, timings FROM (
    SELECT tokens, timings, state, model, kind FROM jobs WHERE finished_at IS NOT NULL
    ORDER BY finished_at DESC LIMIT 100
) WHERE state = 'generated' AND model = ?
    AND (kind = 'text' OR json_extract(timings, '$.rewrite') > 0) LIMIT 20
"""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What the order and the estimates need of a queued or running job."""

    id: str
    user_id: int
    server: int
    """The server's id; 0 outside of servers."""
    state: JobState
    work: float
    """Megapixel steps."""
    weight: float
    """What the user's served time is divided by, within the server."""
    started_at: float | None
    model: str = ""
    """What draws it."""
    passed_s: float = 0.0
    """The GPU seconds of jobs behind it that were begun before it."""
    tokens: float = 0.0
    """How long what it has to write is expected to be."""


def _job(row: sqlite3.Row) -> Job:
    values: dict[str, Any] = dict(row)
    values["target"] = Target(values["target"])
    values["state"] = JobState(values["state"])
    seed, private = values.pop("seed"), bool(values.pop("private"))
    try:
        values["request"] = ImageRequest.from_json(values["request"])
    except (UserError, ValueError, TypeError, AttributeError):
        # Written by another version: the row is shown and ended, never drawn.
        values["request"] = ImageRequest("(unreadable)", seed=seed, private=private)
        values["readable"] = False
    values["timings"] = json.loads(values["timings"])
    return Job(**values)


async def insert(
    tx: Transaction,
    job_id: str,
    request: ImageRequest,
    origin: Origin,
    now: float,
    *,
    weight: float = 1.0,
    model: str | None = None,
) -> None:
    """Add a queued job and the address of its answer; `model` None: of the configured model."""
    await tx.execute(
        "INSERT INTO jobs (id, source_id, user_id, guild_id, channel_id, target, locale, private,"
        " request, seed, images, work, created_at, parent_id, weight, parent_channel_id, model,"
        " kind, tokens) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            job_id,
            origin.source_id,
            origin.user_id,
            origin.guild_id,
            origin.channel_id,
            origin.target,
            origin.locale,
            request.private,
            request.to_json(),
            request.seed,
            request.pictures,
            request.megapixel_steps,
            now,
            request.parent,
            weight,
            origin.parent_channel_id,
            model,
            "text" if request.writes else "picture",
            request.tokens,
        ),
    )
    await tx.execute(
        "INSERT INTO deliveries (job_id, application_id, token, token_expires_at, bot_in_channel,"
        " channel_id, message_id, layout) VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
        (
            job_id,
            origin.application_id,
            origin.token,
            origin.token_expires_at,
            origin.bot_in_channel,
            origin.channel_id,
            origin.message_id,
        ),
    )


async def find(tx: Transaction, job_id: str) -> Job | None:
    """Return a job by its id."""
    row = await tx.one(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,))
    return _job(row) if row else None


async def find_all(tx: Transaction, job_ids: Sequence[str]) -> list[Job]:
    """Return the jobs of these ids that there are, in their order, by one statement."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM jobs WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(job_ids),),
    )
    found = {row["id"]: _job(row) for row in rows}
    return [found[job_id] for job_id in job_ids if job_id in found]


async def find_source(tx: Transaction, source_id: str) -> Job | None:
    """Return the job that an interaction, message or idempotency key made."""
    row = await tx.one(f"SELECT {_COLUMNS} FROM jobs WHERE source_id = ?", (source_id,))
    return _job(row) if row else None


async def find_open(tx: Transaction, user_id: int | None = None) -> list[Job]:
    """Return the queued and running jobs, of one user or of all, oldest first."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM jobs WHERE {_OPEN} AND (?1 IS NULL OR user_id = ?1)"
        " ORDER BY created_at, rowid",
        (user_id,),
    )
    return [_job(row) for row in rows]


async def waiting_in_guild(tx: Transaction, guild_id: int) -> list[str]:
    """Return the queued jobs whose answers need the bot to be in a server."""
    rows = await tx.all(
        f"SELECT id FROM jobs WHERE {_OPEN} AND state = 'queued' AND guild_id = ?"
        " AND (SELECT bot_in_channel FROM deliveries WHERE job_id = id)",
        (guild_id,),
    )
    return [row["id"] for row in rows]


async def start(tx: Transaction, job_id: str, now: float) -> None:
    """Set a queued job running."""
    await tx.execute(
        "UPDATE jobs SET state = 'running', started_at = ?, attempts = attempts + 1,"
        " claims = claims + 1 WHERE id = ?",
        (now, job_id),
    )


async def unfinished(tx: Transaction, configured: str = "") -> list[Unfinished]:
    """Return every queued and running job in short, oldest first.

    Those without a model of their own have the `configured` one.
    """
    return [
        Unfinished(
            row["id"],
            row["user_id"],
            row["server"],
            JobState(row["state"]),
            row["work"],
            row["weight"],
            row["started_at"],
            row["model"] or configured,
            row["passed_s"],
            row["tokens"],
        )
        for row in await tx.all(UNFINISHED)
    ]


async def count_queued(tx: Transaction) -> int:
    """Return how many jobs wait, from everyone together."""
    return await tx.value(f"SELECT count(*) FROM jobs WHERE {_OPEN} AND state = 'queued'")


async def count_waiting_of(tx: Transaction, guild_id: int) -> int:
    """Return how many jobs wait that were asked for in a server."""
    return await tx.value(
        f"SELECT count(*) FROM jobs WHERE {_OPEN} AND state = 'queued' AND guild_id = ?",
        (guild_id,),
    )


async def any_open(tx: Transaction) -> bool:
    """Tell whether any job waits or runs."""
    return bool(await tx.value(f"SELECT EXISTS (SELECT 1 FROM jobs WHERE {_OPEN})"))


async def count_open(tx: Transaction, user_id: int) -> int:
    """Return how many jobs of a user wait or run that somebody waits for."""
    return await tx.value(
        f"SELECT count(*) FROM jobs WHERE {_OPEN} AND user_id = ? AND target <> 'cli'", (user_id,)
    )


async def history(tx: Transaction, model: str) -> list[tuple[float, Mapping[str, float]]]:
    """Return (work in megapixel steps, timings in seconds) of the newest jobs drawn by `model`."""
    return [(row["work"], json.loads(row["timings"])) for row in await tx.all(_HISTORY, (model,))]


async def written(tx: Transaction, model: str) -> list[tuple[float, Mapping[str, float]]]:
    """Return (expected tokens, timings in seconds) of the newest texts that `model` wrote.

    The tokens are 0 where a prompt was rewritten before its picture was drawn.
    """
    return [(row["tokens"], json.loads(row["timings"])) for row in await tx.all(_WRITTEN, (model,))]


async def claim(tx: Transaction, job_id: str, now: float) -> Job | None:
    """Start a queued job, and return it as it stands then."""
    await start(tx, job_id, now)
    return await find(tx, job_id)


async def pass_over(tx: Transaction, job_ids: Sequence[str], seconds: float) -> None:
    """Note that queued jobs were passed over by one of so many expected GPU seconds."""
    await tx.execute(
        "UPDATE jobs SET passed_s = passed_s + ? WHERE id IN (SELECT value FROM json_each(?))",
        (seconds, json.dumps(job_ids)),
    )


async def running(tx: Transaction, job: Job) -> Job | None:
    """Return the present row of `job` while this very claim holds: the fence of late results."""
    found = await find(tx, job.id)
    if found and found.state is JobState.RUNNING and found.claims == job.claims:
        return found
    return None


async def ask_cancel(tx: Transaction, job_id: str, now: float) -> None:
    """Remember that a running job is to be cancelled."""
    await tx.execute(
        "UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, ?) WHERE id = ?",
        (now, job_id),
    )


async def end(tx: Transaction, job_id: str, state: JobState, now: float) -> None:
    """Bring a job to a final state, and hand its answer to the courier."""
    await tx.execute(
        "UPDATE jobs SET state = ?, finished_at = ? WHERE id = ?", (state, now, job_id)
    )
    await tx.execute(
        "UPDATE deliveries SET state = 'pending', next_attempt_at = ?"
        " WHERE job_id = ? AND state = 'waiting'",
        (now, job_id),
    )


async def queue_again(
    tx: Transaction, job_id: str, *, attempts: int = 0, interruptions: int = 0
) -> None:
    """Put a running job back to its old place, changing its counters by these amounts."""
    await tx.execute(
        "UPDATE jobs SET state = 'queued', started_at = NULL, attempts = attempts + ?,"
        " interruptions = interruptions + ? WHERE id = ?",
        (attempts, interruptions, job_id),
    )


async def set_result(
    tx: Transaction,
    job_id: str,
    *,
    model: str,
    timings: Mapping[str, float],
    peak_gpu_bytes: int | None,
) -> None:
    """Record how a job was drawn; an earlier attempt's fault stays in `error_detail` alone."""
    await tx.execute(
        "UPDATE jobs SET model = ?, timings = ?, peak_gpu_bytes = ?, error = NULL,"
        " error_kind = NULL WHERE id = ?",
        (model, json.dumps(dict(timings)), peak_gpu_bytes, job_id),
    )


async def set_error(
    tx: Transaction, job_id: str, kind: str, sentence: str | None, detail: str
) -> None:
    """Record a fault; `sentence` is for the user, if the job ends by it."""
    await tx.execute(
        "UPDATE jobs SET error_kind = ?, error = ?, error_detail = ? WHERE id = ?",
        (kind, sentence, detail, job_id),
    )


async def count_fault(tx: Transaction, job_id: str) -> None:
    """Count that the engine failed under a job."""
    await tx.execute("UPDATE jobs SET engine_faults = engine_faults + 1 WHERE id = ?", (job_id,))


async def add_images(tx: Transaction, images: Sequence[ImageRecord]) -> None:
    """Add the pictures of a job."""
    for image in images:
        await tx.execute(
            "INSERT INTO images (job_id, position, file, sha256, size_bytes, width, height, seed,"
            " verdict, score) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                image.job_id,
                image.position,
                image.file,
                image.sha256,
                image.size_bytes,
                image.width,
                image.height,
                image.seed,
                image.verdict,
                image.score,
            ),
        )


_IMAGE: Final = "job_id, position, file, sha256, size_bytes, width, height, seed, verdict, score"


async def find_images(tx: Transaction, job_id: str) -> list[ImageRecord]:
    """Return the pictures of a job in their order."""
    rows = await tx.all(
        f"SELECT {_IMAGE} FROM images WHERE job_id = ? ORDER BY position", (job_id,)
    )
    return [ImageRecord(**dict(row)) for row in rows]


async def images_of_all(tx: Transaction, job_ids: Sequence[str]) -> dict[str, list[ImageRecord]]:
    """Return the pictures of each job that has some, in their order, by one statement."""
    rows = await tx.all(
        f"SELECT {_IMAGE} FROM images WHERE job_id IN (SELECT value FROM json_each(?))"
        " ORDER BY job_id, position",
        (json.dumps(job_ids),),
    )
    found: dict[str, list[ImageRecord]] = {}
    for row in rows:
        found.setdefault(row["job_id"], []).append(ImageRecord(**dict(row)))
    return found
