"""What `bench response --buttons` measures is there: every control under a picture, each answered."""

from __future__ import annotations

import json

import pytest

from bot.cli.main import main
from bot.lab.bench.crowd import _CONTROLS


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_control_is_pressed_and_answered(capsys):
    assert main(["bench", "response", "--interactions", "24", "--buttons"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["interactions"], figures["unanswered"]) == (24, 0)
    assert {name: of["presses"] for name, of in figures["by_control"].items()} == dict.fromkeys(
        _CONTROLS, 2
    )
