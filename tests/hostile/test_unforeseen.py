"""A fault that nobody foresaw: the job fails with an id that its user and the log have; others go on."""

from __future__ import annotations

import pytest

from bot.domain.job import JobState
from tests.engines import Script, ScriptedEngine
from tests.hostile.kit import draw, fail, unruly
from tests.wire.kit import soon, staged, text_of


def lines_about(log, job) -> list[str]:
    return [line for line in log.getvalue().splitlines() if job.id in line]


async def test_an_exception_that_nobody_foresaw(sandbox, tmp_path, log):
    prompt = "a very secret lighthouse"
    scripts = [Script(error=ZeroDivisionError(f"while drawing {prompt}"), error_at=1)] * 2
    async with staged(sandbox, tmp_path, ScriptedEngine(*scripts)) as stage:
        job = await fail(stage, prompt)
        assert (job.error_kind, job.engine_faults) == ("internal", 2)
        assert any(" ERROR " in line and "unexpected" in line for line in lines_about(log, job))
        assert "ZeroDivisionError: while drawing …" in log.getvalue()
        assert "lighthouse" not in log.getvalue()
        await draw(stage, "fine")


async def test_a_picture_that_vanishes(sandbox, tmp_path, log):
    engine = ScriptedEngine(Script(silent_loss=True), Script(silent_loss=True))
    async with staged(sandbox, tmp_path, engine) as stage:
        job = await fail(stage, "gone")
        assert job.error_kind == "internal"
        assert any("unexpected error" in line for line in lines_about(log, job))
        await draw(stage, "fine")


async def test_an_outcome_that_the_database_refuses(sandbox, tmp_path, log):
    async with staged(sandbox, tmp_path) as stage:
        await stage.database.write(
            lambda tx: tx.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON images WHEN NEW.seed = 666"
                " BEGIN SELECT RAISE(ABORT, 'this row is not wanted'); END"
            )
        )
        message = await stage.outcome(await stage.imagine("alice", "refused", seed=666))
        job = await stage.job_of(message)
        assert (job.state, job.error_kind) == (JobState.FAILED, "internal")
        assert job.id in text_of(message)
        about = lines_about(log, job)
        assert any("could not be recorded" in line for line in about)
        await draw(stage, "fine", "bob")
        left = await stage.database.read(lambda tx: tx.value("SELECT count(*) FROM images"))
        assert left == 1


async def test_a_stored_request_that_cannot_be_read(sandbox, tmp_path, log):
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine) as stage:
        first = await stage.imagine("alice", "holds the engine")
        await soon(engine.holding.wait())
        broken = [await stage.imagine("bob", f"broken {number}") for number in range(3)]
        for invocation, text in zip(broken, ["{}", "[1]", '{"prompt": 5}'], strict=True):
            message = await invocation.answer()
            job = await stage.job_of(message)
            await stage.database.write(
                lambda tx, row=(text, job.id): tx.execute(
                    "UPDATE jobs SET request = ? WHERE id = ?", row
                )
            )
        after = await stage.imagine("chen", "comes after them")
        listed = await (await sandbox.user("bob").slash("general", "queue")).response()
        assert "(unreadable)" in listed.message.content.replace("\\", "")
        engine.release.set()
        assert (await stage.outcome(first)).files
        assert (await stage.outcome(after)).files
        for invocation in broken:
            message = await stage.outcome(invocation)
            job = await stage.job_of(message)
            assert job.state is JobState.FAILED
            assert job.id in text_of(message)
            assert lines_about(log, job)
        bob = sandbox.user("bob")
        shown = await (await bob.context_menu("general", "Show parameters", message)).answer()
        assert "can no longer be read" in shown.content
        assert job.id in shown.content
        for made_up in ("unreadable)", "1344x768", "Steps", "Seed"):
            assert made_up not in shown.content


async def test_a_start_finds_a_running_job_that_cannot_be_read(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine) as stage:
        invocation = await stage.imagine("alice", "held")
        await soon(engine.holding.wait())
        await stage.database.write(
            lambda tx: tx.execute("UPDATE jobs SET request = 'no JSON' WHERE state = 'running'")
        )
    async with staged(sandbox, tmp_path) as stage:
        message = await stage.outcome(invocation)
        assert (await stage.job_of(message)).state is JobState.FAILED
        await draw(stage, "fine", "bob")


@pytest.mark.slow
@pytest.mark.parametrize("negative", ["", "an ugly secret green cow"])
async def test_no_prompt_gets_into_the_log(sandbox, tmp_path, monkeypatch, log, negative):
    prompt = (
        "chatty purple cow,\n\tjumping 'over' the \"moon\" at 4 o'clock, 猫頭鷹在樹上唱歌直到天亮"
    )
    options = {"negative": negative} if negative else {}
    async with unruly(sandbox, tmp_path, monkeypatch) as stage:
        message = await stage.outcome(await stage.imagine("alice", prompt, **options))
        job = await stage.job_of(message)
        assert job.state is JobState.FAILED
        query = "SELECT error_detail FROM jobs"
        detail = await stage.database.read(lambda tx: tx.value(query))
    child = [line for line in log.getvalue().splitlines() if "bot.engine.child" in line]
    named = {line.split()[3] for line in child}
    assert job.id in named
    assert named <= {job.id, "-"}, "before the first job the child works for nobody"
    text = log.getvalue() + detail
    assert "was truncated" in text
    assert "KeyError" in text
    for word in ("purple", "jumping", "clock", "猫頭鷹", "u732b", "ugly secret", "green cow"):
        assert word not in text, word


async def test_control_tokens_reach_the_pipeline_as_plain_text(sandbox, tmp_path, monkeypatch):
    async with unruly(sandbox, tmp_path, monkeypatch) as stage:
        await draw(stage, "write-down <|im_end|> of <|image_pad|>")
        seen = (tmp_path / "data/images/.work/engine-local-0/prompts.json").read_text()
    assert "write-down <| im_end |> of <| image_pad |>" in seen


async def test_what_was_typed_stays_out_of_the_log_of_a_fault(stage, log, monkeypatch):
    prompt = "a very secret lighthouse"
    bob = stage.sandbox.user("bob")
    opened = await bob.slash("general", "compose")
    await opened.response()

    async def broken(request, *_, **__):
        raise ZeroDivisionError(f"{request.prompt} {request.prompt!r}")

    monkeypatch.setattr(stage.queue, "submit", broken)
    told = await (await stage.imagine("bob", prompt)).answer()
    assert "Something went wrong" in told.content
    sent = await bob.submit_modal(opened, {"prompt": f"{prompt} 2", "negative": ""})
    assert "Something went wrong" in (await sent.answer()).content
    await bob.send("dm", f"{prompt} 3")
    await stage.sandbox.wait(lambda: [m for m in bob.messages("dm") if m.author.bot])
    assert log.getvalue().count("ZeroDivisionError: …") == 3
    assert "lighthouse" not in log.getvalue()
