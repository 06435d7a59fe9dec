"""A burst of requests at the whole bot: everybody is answered, and drawing goes on meanwhile."""

from __future__ import annotations

import json

import pytest

from bot.cli.main import main


@pytest.mark.slow
def test_everybody_is_answered_while_the_engine_draws(capsys):
    assert main(["bench", "burst", "--requests", "400", "--within", "2", "--seconds", "0.1"]) == 0
    printed = capsys.readouterr()
    figures = json.loads(printed.out)
    assert (figures["requests"], figures["unanswered"]) == (400, 0)
    assert figures["accepted"] == 400
    assert figures["burst_pictures_a_second"] > 0
    # Those who asked when it stopped are told so; nothing of it is an error.
    assert not printed.err
