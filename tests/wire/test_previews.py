"""The unfinished picture in the waiting message."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from tests.engines import Script, ScriptedEngine
from tests.wire.kit import gallery_of, is_answer, job_id_of, soon, staged, text_of


def jpeg(colour: str = "teal") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr("bot.delivery.progress.RUNNING_PACE_S", 0.05)


def files(message) -> list[str]:
    return [file.filename for file in message.files]


async def test_a_preview_is_shown_until_the_answer_comes(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=4, preview=jpeg()))
    async with staged(sandbox, tmp_path, engine) as stage:
        invocation = await stage.imagine("alice", "a fish")
        message = await invocation.answer()
        await soon(engine.holding.wait())
        # The picture may come with an edit of its own, before or after the words.
        await sandbox.wait(
            lambda: files(message) == ["preview.jpg"] and "Step 4 of 10" in text_of(message)
        )
        assert message.files[0].data == jpeg()
        assert message.files[0].description == "The unfinished picture"
        (shown,) = gallery_of(message)
        assert (shown["media"]["url"], shown["description"]) == (
            message.files[0].url,
            "The unfinished picture",
        )
        engine.release.set()
        answer = await stage.outcome(invocation)
        assert files(answer) == [f"{job_id_of(answer)}_0.png"]
        edits = [e for e in sandbox.exchanges if e.method == "PATCH"]
        assert is_answer(edits[-1])


async def test_where_files_are_not_taken_the_words_go_on(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=4, preview=jpeg()))
    async with staged(sandbox, tmp_path, engine) as stage:
        shows = lambda exchange: "preview.jpg" in str(exchange.request)  # noqa: E731
        sandbox.faults.respond("PATCH", "/webhooks/*", 413, code=40005, when=shows)
        invocation = await stage.imagine("alice", "a fish")
        message = await invocation.answer()
        await soon(engine.holding.wait())
        await sandbox.wait(lambda: any(e.status == 413 for e in sandbox.exchanges))
        engine.release.set()
        answer = await stage.outcome(invocation)
        assert message is answer
        assert answer.files


async def test_a_second_attempt_does_not_show_the_firsts_preview(sandbox, tmp_path):
    engine = ScriptedEngine(
        Script(hold_at=4, preview=jpeg(), error=RuntimeError("boom"), error_at=5),
        Script(hold_at=2),
    )
    async with staged(sandbox, tmp_path, engine) as stage:
        invocation = await stage.imagine("alice", "a fish")
        message = await invocation.answer()
        await soon(engine.holding.wait())
        await sandbox.wait(lambda: files(message) == ["preview.jpg"])
        engine.holding.clear()
        engine.release.set()
        await sandbox.wait(lambda: not files(message) or files(message)[0].endswith(".png"))
        assert (await stage.outcome(invocation)).files
