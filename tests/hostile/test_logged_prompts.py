"""Prompts in the log: none, not even in the traceback of a fault, unless the owner opts in."""

from __future__ import annotations

import pytest

from bot.client import asking
from bot.delivery import card_maker, courier
from bot.logs import set_up_logging
from tests.wire.kit import staged, text_of

SECRET = "a lighthouse that nobody may read of"


@pytest.mark.parametrize("wanted", [False, True])
async def test_prompts_are_logged_only_if_the_owner_opts_in(
    sandbox, tmp_path, monkeypatch, log, wanted
):
    set_up_logging("DEBUG", stream=log, prompts=wanted)
    monkeypatch.setattr(courier, "_FIRST_RETRY_S", 0.001)
    bob = sandbox.user("bob")
    async with staged(sandbox, tmp_path, log_prompts=wanted) as stage:
        message = await stage.outcome(await stage.imagine("bob", SECRET, negative=SECRET + "!"))
        opened = await bob.press(message, "Remix")
        await opened.response()
        edited = await bob.submit_modal(opened, {"prompt": SECRET + " 2", "negative": ""})
        await stage.outcome(edited)
        await bob.send("dm", SECRET)
        await stage.sandbox.world.events.wait(lambda: any(m.files for m in bob.messages("dm")))
        await (await bob.slash("general", "history", text=SECRET[:40])).until(lambda m: m.content)

        def fail(*texts, **_):
            raise RuntimeError(f"a fault that quotes: {texts}")

        with monkeypatch.context() as broken:
            broken.setattr(asking, "compose", fail)
            failed = await (await stage.imagine("bob", SECRET)).answer()
            assert "Something went wrong" in failed.content
        with monkeypatch.context() as broken:
            broken.setattr(card_maker, "outcome", fail)
            last = await stage.imagine("bob", SECRET)
            await last.until(lambda m: "Something went wrong" in text_of(m), timeout=30)
    written = log.getvalue()
    assert "a fault that quotes" in written
    assert "unexpected error" in written
    assert ("lighthouse that nobody" in written) == wanted
    assert (f"prompt: {SECRET}" in written) == wanted
