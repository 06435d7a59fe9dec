"""What waiting and drawing jobs say of themselves is true in every state of the engines."""

from __future__ import annotations

import pytest

from bot.jobs.feed import JobUpdate
from bot.jobs.outlook import Awaited, EngineOutlook, QueuePlace, awaited
from bot.messages.status import progress_status, waiting_status

OWN, OTHER, MODEL = "0" * 18, "1" * 18, "a"
FREE = EngineOutlook(model=MODEL)
DRAWS = EngineOutlook(OTHER, model=MODEL)
UNLOADED = EngineOutlook(ready=False, model=MODEL)
SWITCHED = EngineOutlook(model="b")
PAUSED = EngineOutlook(taking=False, model=MODEL)


@pytest.mark.parametrize(
    ("engines", "said"),
    [
        ([FREE], "Starting…"),
        ([DRAWS, FREE], "Starting…"),
        ([EngineOutlook(OWN, model=MODEL)], "Starting…"),
        ([DRAWS], "when the picture before it is done"),
        ([DRAWS, PAUSED], "when the picture before it is done"),
        ([UNLOADED], "the model is loaded first"),
        ([SWITCHED, UNLOADED], "another model makes room first"),
        ([PAUSED], "until an engine takes jobs again"),
        ([], "until an engine takes jobs again"),
    ],
)
def test_what_the_next_job_waits_for(engines, said):
    status = waiting_status(QueuePlace(0, None, None), None, awaited(engines, OWN, MODEL))
    assert status.endswith(said)


def test_a_paused_queue_promises_no_start():
    status = waiting_status(QueuePlace(0, None, None), "lunch", Awaited.NOW)
    assert status == "⏳ Next · ⏸️ the queue is paused: lunch"


def test_steps_tell_what_is_left_and_the_last_one_that_it_finishes():
    step = JobUpdate(OWN, "step", step=4, total=12)
    assert progress_status(step, left_s=41.0).endswith("about 40 s left")
    assert progress_status(step, left_s=0.4).endswith("about 5 s left")
    assert "left" not in progress_status(step)
    assert progress_status(JobUpdate(OWN, "preview", step=12, total=12)) == "🎨 Finishing…"
