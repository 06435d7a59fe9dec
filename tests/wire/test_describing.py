"""Pictures described over the wire: what is shown of them, and to whom."""

from __future__ import annotations

import pytest

from tests.wire.kit import is_outcome, job_id_of, soon, staged, text_of
from tests.wire.test_chinese import judge as judge_chinese
from tests.wire.test_edits import BOTH, picture
from tests.wire.test_pictures_in import png
from tests.wire.test_writing import is_written, labels, written


@pytest.fixture
async def stage(sandbox, tmp_path):
    async with staged(sandbox, tmp_path / "data", **BOTH) as running:
        yield running


async def test_a_picture_is_described_and_its_prompt_drawn(stage):
    alice, one = stage.sandbox.user("alice"), png(texts={"parameters": "a fish\nSteps: 4"})
    message = await written(await alice.slash("general", "describe", image=("a.png", one)))
    text = text_of(message)
    said = ["says of itself", "a fish", "What is in the picture", "a grey square", "灰色方块"]
    places = [text.index(words) for words in said]
    assert places == sorted(places)  # what the file says comes first
    job = await stage.job_of(message)
    assert stage.engine.seen_by_writer[job.id] == [one]
    assert (job.model, job.request.writes) == ("tiny-edit", "describe")
    drawn = await stage.outcome(await stage.sandbox.user("bob").press(message, "Imagine this"))
    assert stage.engine.requests[0].prompt == "a grey square, flat light"
    assert (await stage.job_of(drawn)).model == "tiny"


async def test_what_a_file_says_keeps_the_servers_rules_and_a_few_lines(stage):
    alice = stage.sandbox.user("alice")
    await (await alice.slash("general", "admin rule add", rule="kraken")).answer()
    told = png(texts={"parameters": "a KRAKEN\nSteps: 4"})
    message = await written(await alice.slash("general", "describe", image=("a.png", told)))
    assert "KRAKEN" not in text_of(message)
    assert "a grey square" in text_of(message)
    stage.engine.answers.append("CONTENT: a poster that says KRAKEN\nENGLISH: a poster")
    asked = await alice.slash("general", "describe", image=("a.png", png()))
    refused = await asked.until(lambda m: "breaks a rule" in text_of(m), timeout=30)
    assert "KRAKEN" not in text_of(refused)
    long = png(texts={"parameters": "\n".join(f"{n}\u202e" for n in range(300)) + "\nSteps: 4"})
    message = await written(await alice.slash("general", "describe", image=("a.png", long)))
    assert text_of(message).count("\n") < 45
    assert "\u202e" not in text_of(message)


async def test_the_menu_and_the_last_picture_in_the_readers_language(stage):
    first = await stage.outcome(await stage.imagine("chen", "灯塔"))
    chen = stage.sandbox.user("chen")
    by_menu = await written(await chen.context_menu("general", "Describe this picture", first))
    last = await written(await chen.slash("general", "describe"))
    for message in (by_menu, last):
        # The engine of these tests answers in English, whatever it is asked.
        text = text_of(message)
        for other in ("a grey square, flat light", "a grey square", "tiny-edit"):
            text = text.replace(other, "")
        judge_chinese(text)
    assert all("in Chinese what" in asked.system for asked in stage.engine.asked)
    drawn = await stage.outcome(await chen.press(by_menu, labels(by_menu)[0]))
    assert stage.engine.requests[-1].prompt == "一个灰色方块"
    other = await stage.sandbox.user("bob").send("general", "words alone")
    refused = await chen.context_menu("general", "Describe this picture", other)
    judge_chinese((await refused.answer()).content)
    assert is_outcome(drawn)


async def test_a_description_is_not_history_and_goes_when_it_is_deleted(stage):
    alice = stage.sandbox.user("alice")
    message = await written(
        await alice.slash("general", "describe", image=("a.png", picture((64, 64))))
    )
    assert "no pictures yet" in (await (await alice.slash("general", "history")).answer()).content
    job_id = job_id_of(message)
    await (await alice.press(message, "Delete")).response()
    await soon(stage.delivered(job_id))
    await stage.sandbox.wait(lambda: not any(map(is_written, alice.messages("general"))))
    rows = await stage.database.read(lambda tx: tx.value("SELECT count(*) FROM texts"))
    assert rows == 0
