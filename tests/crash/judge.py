"""The storm's judge: every job of the database against every message that the users see."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

from bot.delivery.ladder import BY_NEW_MESSAGE
from bot.jobs.outcomes import MAX_ENGINE_FAULTS, MAX_INTERRUPTIONS
from bot.sandbox.model import Message
from tests.crash.kit import Answers, Bot, reading, rows, wrong_pictures

_JOBS = """
SELECT j.*, d.state AS delivery, d.rung, d.token, d.error AS delivery_error FROM jobs AS j
JOIN deliveries AS d ON d.job_id = j.id ORDER BY j.id
"""


@dataclass
class Report:
    """What a storm did, and what it found. All of `faults` have to be empty."""

    requests: int = 0
    """Requests by users, with those that were repeated because no answer came."""
    jobs: int = 0
    kills_bot: int = 0
    kills_engine: int = 0
    generated: int = 0
    cancelled: int = 0
    failed: int = 0
    """Jobs that used up their limits (each one is checked)."""
    kept: int = 0
    """Answers that no way could carry; they wait for /show."""
    texts: int = 0
    """Rewritten prompts that were shown."""
    pictures: int = 0
    """Pictures whose posted bytes have the recorded SHA-256."""
    lost: list[str] = field(default_factory=list)
    visible_twice: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Everything else that may not be."""
    leftovers: int = 0
    """Progress messages that stand although another message brought the answer."""
    rungs: dict[str, int] = field(default_factory=dict)
    discord_faults: dict[str, int] = field(default_factory=dict)
    bot_starts: int = 0
    engines_at_once: int = 0
    """The most children that were seen at a kill."""
    interrupted_jobs: int = 0
    faulted_jobs: int = 0
    seconds: float = 0.0

    @property
    def faults(self) -> list[str]:
        return [
            f"{kind}: {what}"
            for kind in ("lost", "visible_twice", "stuck", "wrong")
            for what in getattr(self, kind)
        ]

    def figures(self) -> dict[str, Any]:
        """The report with counts in place of the lists, for people."""
        values = asdict(self)
        for kind in ("lost", "visible_twice", "stuck", "wrong"):
            values[kind] = len(values[kind])
        return values


def judge(bot: Bot, answers: Answers, cancel_wishes: Collection[str], report: Report) -> None:
    """Compare the database of a stopped bot with what stands in the sandbox; fill in `report`."""
    jobs = {row["id"]: row for row in rows(bot.database, _JOBS)}
    report.jobs = len(jobs)
    report.lost += [f"{job_id}: promised, no row" for job_id in answers.promised - jobs.keys()]
    sources = [row["source_id"] for row in jobs.values()]
    if len(set(sources)) != len(sources):
        report.wrong.append("a request made two jobs")
    with reading(bot.database) as connection:
        integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
    if integrity != "ok":
        report.wrong.append(f"integrity_check: {integrity}")
    for job_id, row in jobs.items():
        seen = list(answers.outcomes[job_id].values())
        report.interrupted_jobs += row["interruptions"] > 0
        report.faulted_jobs += row["engine_faults"] > 0
        if row["delivery"] not in {"delivered", "undeliverable"}:
            report.stuck.append(f"{job_id}: {row['state']}, {row['delivery']}")
        elif row["delivery"] == "undeliverable":
            report.kept += 1
        elif not seen:
            report.lost.append(f"{job_id}: {row['state']} and delivered, but nobody sees it")
        if len(seen) > 1:
            places = [(message.channel.name, message.id) for message in seen]
            report.visible_twice.append(f"{job_id}: {places}")
        if seen and row["delivery"] == "delivered":
            waiting = len(answers.promises[job_id])
            if row["rung"] in BY_NEW_MESSAGE and waiting:
                report.wrong.append(f"{job_id}: answered by {row['rung']}, and one still waits")
            report.leftovers += waiting
            report.rungs[row["rung"]] = report.rungs.get(row["rung"], 0) + 1
        if row["token"] is not None and row["delivery"] in {"delivered", "undeliverable"}:
            report.wrong.append(f"{job_id}: its token is still stored")
        _judge_state(bot, row, seen, cancel_wishes, report)


def _judge_state(
    bot: Bot,
    row: dict[str, Any],
    seen: list[Message],
    cancel_wishes: Collection[str],
    report: Report,
) -> None:
    job_id = row["id"]
    text = " ".join(message.text for message in seen)
    match row["state"]:
        case "generated" if row["kind"] == "text":
            report.texts += 1
            if seen and "in soft light" not in text:
                report.wrong.append(f"{job_id}: its user reads {text!r}")
        case "generated":
            report.generated += 1
            for message in seen:
                report.wrong += wrong_pictures(bot, message)
                report.pictures += len(message.files)
                if bool(row["private"]) and not (
                    message.ephemeral or message.channel.guild is None
                ):
                    report.wrong.append(f"{job_id}: private, but shown in {message.channel.name}")
        case "failed":
            report.failed += 1
            used_up = (
                row["interruptions"] >= MAX_INTERRUPTIONS
                if row["error_kind"] == "interrupted"
                else row["engine_faults"] >= MAX_ENGINE_FAULTS
            )
            if not used_up:
                report.wrong.append(
                    f"{job_id}: failed ({row['error_kind']}: {row['error_detail']}) after"
                    f" {row['engine_faults']} faults, {row['interruptions']} interruptions"
                )
            if seen and str(row["error"]).split(" (")[0].split(":")[0] not in text:
                report.wrong.append(f"{job_id}: failed, but its user reads {text!r}")
        case "cancelled":
            report.cancelled += 1
            if job_id not in cancel_wishes:
                report.wrong.append(f"{job_id}: cancelled, and nobody asked for it")
