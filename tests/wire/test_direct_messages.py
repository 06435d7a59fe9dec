"""Prompts by direct message."""

from __future__ import annotations

from tests.engines import Script, ScriptedEngine
from tests.wire.kit import controls, is_outcome, job_id_of, soon, staged, text_of


def answers(stage, name):
    return [m for m in stage.sandbox.user(name).messages("dm") if m.author.bot]


async def test_text_is_a_prompt(stage):
    chen = stage.sandbox.user("chen")
    await chen.send("dm", "蓝色的月亮")
    (message,) = await stage.sandbox.wait(
        lambda: [m for m in answers(stage, "chen") if is_outcome(m)]
    )
    assert len(message.files) == 1
    job = await stage.job_of(message)
    assert job.request.prompt == "蓝色的月亮"
    delivery = await stage.delivered(job.id)
    assert (delivery.rung, delivery.sent_message_id) == ("edit", message.id)
    assert len(answers(stage, "chen")) == 1


async def test_cancel_by_button(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine) as stage:
        await sandbox.user("bob").send("dm", "a boat")
        (message,) = await sandbox.wait(lambda: answers(stage, "bob"))
        assert controls(message) == [f"cancel:{job_id_of(message)}"]
        await soon(engine.holding.wait())
        await sandbox.user("bob").press(message, "Cancel")
        await sandbox.wait(lambda: is_outcome(message))
        assert "Cancelled" in text_of(message)


async def test_a_file_is_refused_by_name(stage):
    await stage.sandbox.user("bob").send("dm", "look", files=[("notes.txt", b"hello")])
    (message,) = await stage.sandbox.wait(lambda: answers(stage, "bob"))
    assert "notes.txt" in message.content
    assert await stage.jobs_made() == 0


async def test_a_refusal_is_a_sentence(stage):
    await stage.sandbox.user("bob").send("dm", "x" * 1990 + "\x07")
    (message,) = await stage.sandbox.wait(lambda: answers(stage, "bob"))
    assert "control character" in message.content


async def test_messages_in_servers_are_left_alone(stage):
    await stage.sandbox.user("bob").send("general", "not for the bot")
    await stage.outcome(await stage.imagine("alice", "for the bot"))
    assert await stage.jobs_made() == 1
