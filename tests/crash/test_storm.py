"""Random kills of both processes in bad weather; see storm.py, and judge.py for what is counted."""

from __future__ import annotations

import pytest

from tests.crash.runner import TINY
from tests.crash.soak import soak
from tests.crash.storm import storm


def check(report, jobs: int, kills: int) -> None:
    assert not report.faults
    assert report.jobs >= jobs
    assert report.kills_bot + report.kills_engine >= kills
    assert min(report.kills_bot, report.kills_engine) > 0
    # Users see as many pictures as were made, each with the recorded bytes.
    assert report.pictures >= report.generated > 0
    assert report.kept == 0


@pytest.mark.slow
async def test_four_kills_in_fair_weather(tmp_path):
    check(await storm(16, 4, 5, tmp_path, weather=0), 16, 4)


@pytest.mark.slow
@pytest.mark.timeout(280)
async def test_three_hundred_jobs_and_sixty_kills(tmp_path):
    report = await storm(300, 60, 1, tmp_path)
    check(report, 300, 60)
    # Every way was needed, and people did cancel.
    assert set(report.rungs) == {"reply", "direct", "token", "edit", "channel", "dm"}
    assert report.cancelled
    assert report.interrupted_jobs
    assert report.faulted_jobs


@pytest.mark.slow
@pytest.mark.timeout(280)
async def test_written_jobs_among_pictures(tmp_path):
    report = await storm(120, 24, 3, tmp_path, texts=True)
    check(report, 120, 24)
    assert report.texts


@pytest.mark.slow
@pytest.mark.timeout(280)
async def test_two_engines_and_twenty_kills(tmp_path):
    report = await storm(100, 20, 7, tmp_path, engines=2)
    check(report, 100, 20)
    assert report.engines_at_once == 2


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(280)
async def test_a_storm_around_the_real_tiny_model(tmp_path):
    report = await storm(20, 5, 1, tmp_path, pipeline=TINY, kill_pause_s=2.0)
    check(report, 20, 5)


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        ("repeats", "visible_twice"),
        ("recovery", "stuck"),
        ("outbox", "lost"),
        ("removal", "wrong"),
    ],
)
async def test_the_storm_finds_a_broken_bot(tmp_path, broken, kind):
    # Whether a fault shows depends on where the kills fall; three storms leave little to chance.
    for seed in (2, 3, 4):
        (tmp_path / str(seed)).mkdir()
        report = await storm(
            40,
            20,
            seed,
            tmp_path / str(seed),
            sabotage=(broken,),
            weather=2,
            steady_line=True,
            stall_s=10,
        )
        if getattr(report, kind):
            break
    assert getattr(report, kind)


@pytest.mark.slow
@pytest.mark.timeout(280)
async def test_nothing_piles_up(tmp_path):
    figures = await soak(480, tmp_path)
    assert not figures["faults"], figures
