"""What users see when the engine fails: one retry, then a sentence, and the queue goes on."""

from __future__ import annotations

import pytest

from bot.delivery import progress
from bot.domain.job import JobState
from bot.errors import EngineError, EngineErrorKind
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import staged, text_of

# Those that are not the job's fault, or are final at once, have tests of their own.
OTHERS = {
    EngineErrorKind.LOAD_FAILED,
    EngineErrorKind.SWITCH_FAILED,
    EngineErrorKind.REFUSED,
    EngineErrorKind.DISK_REFUSED,
}
KINDS = sorted(set(EngineErrorKind) - OTHERS)


def failing(kind, **options):
    return Script(error=EngineError(kind, "detail for the log", **options), error_at=2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_once_is_retried(sandbox, tmp_path, kind):
    async with staged(sandbox, tmp_path, ScriptedEngine(failing(kind))) as stage:
        message = await stage.outcome(await stage.imagine("alice", "a tree"))
        assert message.files
        job = await stage.job_of(message)
        assert (job.attempts, job.engine_faults) == (2, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_twice_is_a_sentence_and_the_next_job_runs(sandbox, tmp_path, kind):
    engine = ScriptedEngine(failing(kind), failing(kind))
    async with staged(sandbox, tmp_path, engine, limit_images_per_day=2) as stage:
        message = await stage.outcome(await stage.imagine("alice", "a tree"))
        job = await stage.job_of(message)
        assert job.state is JobState.FAILED
        assert job.error in text_of(message)
        assert "detail for the log" not in text_of(message)
        assert not message.files
        again = await sandbox.user("alice").press(message, "Try again")
        assert (await stage.outcome(again)).files
        # The failure was refunded: two pictures a day are still two.
        await stage.outcome(await stage.imagine("alice", "one more"))


async def test_a_missing_model_file_is_named(sandbox, tmp_path, monkeypatch):
    # The next try comes sooner than the usual pace of edits would show the reason.
    monkeypatch.setattr(progress, "RUNNING_PACE_S", 0.0)
    monkeypatch.setattr(progress, "WAITING_PACE_S", 0.0)
    sentence = "The model file transformer/a.safetensors is missing."
    script = failing(EngineErrorKind.LOAD_FAILED, sentence=sentence)
    async with staged(sandbox, tmp_path, ScriptedEngine(script)) as stage:
        invocation = await stage.imagine("alice", "a tree")
        message = await invocation.until(lambda message: sentence in text_of(message))
        # It is not the job's fault: it waits for the file.
        job = await stage.job_of(message)
        assert (job.state, job.attempts, job.engine_faults) == (JobState.QUEUED, 0, 0)


async def test_an_unforeseen_error_names_the_job(sandbox, tmp_path):
    script = Script(error=ZeroDivisionError(), error_at=1)
    async with staged(sandbox, tmp_path, ScriptedEngine(script, script)) as stage:
        message = await stage.outcome(await stage.imagine("alice", "a tree"))
        job = await stage.job_of(message)
        assert job.id in text_of(message)
        assert (await stage.outcome(await stage.imagine("alice", "next"))).files
