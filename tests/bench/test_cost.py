"""What `bench cost` measures is there, and of a size that its parts explain."""

from __future__ import annotations

import json

import pytest

from bot.cli.main import main


@pytest.mark.thorough
@pytest.mark.slow
def test_the_cost_of_a_job_is_counted_from_the_command_to_its_picture(capsys):
    assert main(["bench", "cost", "--jobs", "10", "--engines", "2", "--seconds", "0.2"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["jobs"] == figures["pictures_seen"] == 10
    assert figures["cpu_ms_a_job"] > 0
    assert figures["commits_a_second"] > 0
    # Accepted, claimed, ended; sending, delivered.
    assert figures["commits_a_job"] >= 5
    # The first response and the picture.
    assert figures["requests_a_job"] >= 2
    assert figures["sent_kib_a_job"] > figures["picture_kib"]
    # A page is 4 KiB; every commit writes some.
    assert figures["wal_kib_a_job"] > 4 * figures["commits_a_job"]
    empty, *_, long = figures["queue"]
    assert (long["waiting"], long["served_in_an_hour"]) == (5_000, 20_000)
    assert all(row[name] > 0 for row in (empty, long) for name in ("submit_cpu_ms", "claim_cpu_ms"))
