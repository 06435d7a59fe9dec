"""Custom ids that no client of ours has sent: each press has one answer, and none is unforeseen."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

import cogs
from bot.client.controls import Control
from bot.domain.ids import JOB_ID_PATTERN
from bot.sandbox.people import NoResponse, Response
from bot.sandbox.server import Sandbox
from tests.hostile.conftest import _route, log
from tests.wire.kit import PATIENCE_S, job_id_of, staged

__all__ = ["_route", "log"]
LONGEST_ID = 100
EXAMPLES_A_SECOND = 60
VALUES = st.sampled_from(["0", "1", "9", "99999999999999999999", "-1", "ja", "x" * 100]) | st.text(
    min_size=1, max_size=20
)
SECONDS = int(os.environ.get("FUZZ_SECONDS", "5"))


# Whose controls stand on cards of layout components; those of the others, below text or embeds.
ON_CARDS = {"cogs.buttons", "cogs.edit", "cogs.enhance", "cogs.describe", "cogs.more"}


def controls(kind: type[Control] = Control) -> dict[str, type[Control]]:
    """Return every control by its class's name."""
    found: dict[str, type[Control]] = {}
    for control in kind.__subclasses__():
        if control.__discord_ui_compiled_template__.pattern != "$^":
            found[control.__name__] = control
        found |= controls(control)
    return found


def templates() -> dict[str, re.Pattern[str]]:
    """Return the pattern of every control's custom id, by its class."""
    return {name: kind.__discord_ui_compiled_template__ for name, kind in controls().items()}


def custom_ids(
    patterns: dict[str, re.Pattern[str]], jobs: list[str]
) -> st.SearchStrategy[tuple[str, str]]:
    """Return controls' names and ids of every form, as often of jobs that there are as of others."""

    @st.composite
    def about(draw: st.DrawFn) -> tuple[str, str]:
        name = draw(st.sampled_from(sorted(patterns)))
        made = draw(st.from_regex(patterns[name], fullmatch=True))
        if draw(st.booleans()):
            known = re.sub(JOB_ID_PATTERN, draw(st.sampled_from(jobs)), made)
            # A user's id may look like a job's, and is none then.
            made = known if patterns[name].fullmatch(known) else made
        return name, made

    return about().filter(lambda drawn: len(drawn[1]) <= LONGEST_ID)


def control(name: str, custom_id: str, values: list[str]) -> dict[str, Any]:
    """Return a button or a menu in Discord's form."""
    if not name.endswith("Menu"):
        return {"type": 2, "id": 2, "style": 1, "label": "x", "custom_id": custom_id}
    options = [{"label": f"{n}", "value": value} for n, value in enumerate(values)]
    return {
        "type": 3,
        "id": 2,
        "custom_id": custom_id,
        "options": options,
        "min_values": 1,
        "max_values": len(options),
    }


def shown_by(answer: Response) -> str:
    """Return all that a first response shows."""
    message, modal = answer.message, answer.modal
    parts = [] if modal is None else [modal.title, modal.components]
    return str(
        [*parts, *([message.content, message.embeds, message.components] if message else [])]
    )


@pytest.mark.slow
@pytest.mark.timeout(60 + 4 * SECONDS)
def test_every_custom_id_has_one_answer(tmp_path, log):
    assert cogs
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def begin():
            sandbox = await stack.enter_async_context(Sandbox())
            stage = await stack.enter_async_context(staged(sandbox, tmp_path / "data"))
            message = await stage.outcome(await stage.imagine("alice", "a house"))
            other = await stage.outcome(await stage.imagine("bob", "a secret boat", "dm"))
            plain = await stage.outcome(await stage.imagine("alice", "a boat"))
            plain.flags = 0
            return sandbox, message, plain, [job_id_of(message), job_id_of(other)]

        sandbox, card, plain, jobs = runner.run(begin())
        patterns = templates()
        assert len(patterns) > 15

        async def press(name: str, custom_id: str, values: list[str]) -> None:
            message = card if controls()[name].__module__ in ON_CARDS else plain
            message.deleted = False
            message.components = [
                {"type": 1, "id": 1, "components": [control(name, custom_id, values)]}
            ]
            user = sandbox.user("alice")
            if name.endswith("Menu"):
                used = await user.select(message, custom_id, *values)
            else:
                used = await user.press(message, custom_id)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    answer = await used.response()
            except (NoResponse, TimeoutError) as error:
                raise AssertionError(f"no answer to {custom_id!r}, {values!r}") from error
            assert "secret boat" not in shown_by(answer)

        @settings(
            max_examples=SECONDS * EXAMPLES_A_SECOND,
            deadline=None,
            database=DirectoryBasedExampleDatabase(Path(".fuzz") / "component-ids"),
            suppress_health_check=list(HealthCheck),
            # No search for a smaller one: each press that is not answered takes half a minute.
            phases=(Phase.explicit, Phase.reuse, Phase.generate),
        )
        @given(custom_ids(patterns, jobs), st.lists(VALUES, min_size=1, max_size=3, unique=True))
        def tried(control: tuple[str, str], values: list[str]) -> None:
            name, custom_id = control
            log.seek(0)
            log.truncate()
            runner.run(press(name, custom_id, values))
            assert "unexpected error" not in log.getvalue()

        try:
            tried()
        finally:
            runner.run(stack.aclose())
