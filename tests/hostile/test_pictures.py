"""Pictures and masks that are none, by every way that an edit takes them: one answer, no harm."""

from __future__ import annotations

import base64

import httpx
import pytest

from bot.pictures.headers import picture_size
from tests.engine.test_inputs import BAD, GOOD
from tests.http.kit import ALICE, GENERATE
from tests.http.test_edits import EDITS
from tests.wire.kit import PATIENCE_S, staged, text_of
from tests.wire.test_edits import picture

FILES = GOOD | BAD
BROKEN = "The picture to start from is broken."
BROKEN_INSIDE = {"truncated", "truncated jpeg", "short of rows"}
SETTINGS = {
    "image_models": "tiny-edit", "limit_open_jobs": 500, "limit_images_per_day": 5000,
    "api_keys": f"alice:{ALICE}", "http_port": 0, "limit_queue_size": 500,
}  # fmt: skip


@pytest.fixture
async def stage(sandbox, tmp_path):
    async with staged(sandbox, tmp_path / "data", **SETTINGS) as running:
        yield running


async def judge(stage, log) -> None:
    """Every job that was accepted has its answer, and nothing was unforeseen."""
    for (job_id,) in await stage.database.read(lambda tx: tx.all("SELECT id FROM jobs")):
        assert (await stage.delivered(job_id)).state == "delivered"
    assert "unexpected error" not in log.getvalue()
    assert "Traceback" not in log.getvalue()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_by_command_form_and_region(stage, log):
    bob = stage.sandbox.user("bob")
    first = await stage.outcome(await stage.imagine("alice", "a house"))
    for name, data in FILES.items():
        file = ("a.png", data)
        sent = [
            await bob.slash("general", "edit", instruction="night", image=file),
            await bob.slash(
                "general", "edit", instruction="night", image=file, region="background"
            ),
            await bob.slash(
                "general", "edit", instruction="night", image=("b.png", picture()), image2=file
            ),
        ]
        opened = await bob.press(first, "Edit")
        await opened.response()
        values = {"instruction": "night", "region": ["top"], "pictures": [file]}
        sent.append(await bob.submit_modal(opened, values))
        told = [text_of(await used.answer(PATIENCE_S)) for used in sent]
        for text in told:
            assert text, name
            assert "went wrong" not in text, name
        # A header that says too much is refused as the file comes, the rest where it is unpacked.
        if name in BROKEN_INSIDE:
            assert BROKEN in told[1], name
        assert ("cannot tell the background" in told[1]) == (name in GOOD), name
    await judge(stage, log)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_as_a_marked_copy_and_by_a_messages_menu(stage, log):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    first = await stage.outcome(await stage.imagine("alice", "a house"))
    mention = f"<@{stage.app.client.user.id}>"
    for name, data in FILES.items():
        files = [("a.png", data)]
        before = len(from_bot(bob))
        await bob.send("general", f"{mention} make it night", files, reply_to=first)
        await stage.sandbox.wait(lambda: len(from_bot(bob)) > before, PATIENCE_S)  # noqa: B023
        assert "went wrong" not in text_of(from_bot(bob)[-1]), name
        shown = await alice.send("general", "look", files)
        opened = await bob.context_menu("general", "Edit this picture", shown)
        answer = await opened.response(PATIENCE_S)
        if answer.modal is None:
            assert text_of(answer.message), name
            continue
        used = await bob.submit_modal(opened, {"instruction": "night", "region": ["background"]})
        assert "went wrong" not in text_of(await used.answer(PATIENCE_S)), name
    await judge(stage, log)


def from_bot(person):
    return [message for message in person.messages("general") if message.author.bot]


@pytest.mark.slow
async def test_over_http_as_references_image_and_mask(stage, log):
    good = picture()
    headers = {"Authorization": f"Bearer {ALICE}"}
    async with httpx.AsyncClient(
        base_url=stage.app.door.url, headers=headers, timeout=PATIENCE_S
    ) as client:
        for name, data in FILES.items():
            text, over = (base64.b64encode(one).decode() for one in (data, good))
            bodies = [
                {"references": [text]},
                {"references": [over, text]},
                {"references": [over], "mask": text},
                {"image": text},
                {"image": over, "mask": text},
                {"image": text, "outpaint": "all"},
            ]
            answers = [
                await client.post(GENERATE, json={"prompt": "make it night"} | body)
                for body in bodies
            ]
            for field, other in (("image", "mask"), ("mask", "image")):
                files = {field: ("a.png", data), other: ("b.png", good)}
                form = {"prompt": "make it night"}
                answers.append(await client.post(EDITS, files=files, data=form))
            found = {answer.status_code for answer in answers}
            assert found <= {200, 400, 422}, (name, found)
            # What its header tells is refused here, what is broken inside where it is drawn.
            if not all(picture_size(data) or (0,)):
                assert 200 not in found, name
            for answer in answers:
                body = answer.json()
                assert answer.is_success or body.get("detail") or body["error"]["message"], name
    await judge(stage, log)
