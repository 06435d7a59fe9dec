"""What `bench http --load` measures is there: streams, requests at their rate, acknowledgements."""

from __future__ import annotations

import json

import pytest

from bot.cli.main import main


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_streams_and_requests_run_while_people_ask(capsys):
    assert main(["bench", "http", "--load", "1"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["streams"], figures["failed"], figures["lost_streams"]) == (50, [], 0)
    assert figures["acks"] > 0
    assert figures["unanswered"] == 0
    assert figures["requests"] > 0
    # Accepted, answered, or refused because too many of the key's were open.
    assert set(figures["statuses"]) <= {"200", "202", "429"}
    assert figures["statuses"].get("200", 0) > 0
