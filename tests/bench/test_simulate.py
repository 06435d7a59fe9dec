"""The simulated day: the real queue and fleet under it keep their promises, every time alike."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from bot.cli.main import main
from bot.lab.bench.population import Population
from bot.lab.bench.simulate import Plan, simulate
from bot.lab.bench.tally import Entry, jain, overtaken
from bot.lab.bench.virtual import VirtualLoop
from bot.lab.bench.virtual_engine import drawing_seconds, step_seconds

SMALL = Plan(engines=4, users=50, hours=2.0)


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    return simulate(SMALL, tmp_path_factory.mktemp("day"))


@pytest.mark.slow
def test_every_accepted_job_ends_exactly_once(day):
    assert day["jobs"] > 50
    assert day["states"] == {"generated": day["jobs"]}
    assert day["ended_once"] == day["jobs"]
    assert day["light_jobs"] + day["heavy_jobs"] == day["jobs"]


@pytest.mark.slow
def test_no_engine_idles_while_a_job_waits(day):
    assert day["idle_while_waiting"] == 0
    assert day["engine_use"] > 0.95
    assert day["queue_max"] >= day["queue_mean"] > 1


def test_whoever_always_waits_gets_as_much_as_the_others(day):
    assert day["always_waiting_users"] >= 2
    assert day["jain_users"] > 0.95
    assert day["jain_servers"] > 0.95


def test_nobody_is_behind_a_pile(day):
    assert day["light_overtaken_by_a_pile"] == 0
    assert day["wait_s"]["light"]["p50"] < day["wait_s"]["heavy"]["p50"]


@pytest.mark.slow
def test_texts_among_pictures_hurt_nobodys_order(tmp_path):
    day = simulate(replace(SMALL, hours=1.0, texts=0.4), tmp_path)
    assert day["states"] == {"generated": day["jobs"]}
    assert day["ended_once"] == day["jobs"]
    assert day["idle_while_waiting"] == 0
    assert day["jain_users"] > 0.95
    assert day["light_overtaken_by_a_pile"] == 0


@pytest.mark.slow
def test_a_seed_gives_the_same_day_again(tmp_path):
    def told(name, **changes):
        figures = simulate(replace(SMALL, hours=0.4, **changes), tmp_path / name)
        return {name: value for name, value in figures.items() if name not in {"plan", "real"}}

    first = told("first")
    assert first == told("again")
    assert first != told("other", seed=2)


def test_the_command_writes_its_figures(tmp_path, capsys):
    file = tmp_path / "figures.json"
    sizes = ["--engines", "2", "--users", "8", "--hours", "0.1", "--seed", "5"]
    assert main(["bench", "simulate", *sizes, "--json", str(file)]) == 0
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert figures == json.loads(capsys.readouterr().out)
    assert figures["plan"]["seed"] == 5
    assert figures["states"] == {"generated": figures["jobs"]}


def test_people_are_unequal_and_ask_more_in_the_evening():
    people = Population(1500, 10, seed=1)
    asked = people.arrivals(8000, 86_400.0)
    assert asked == Population(1500, 10, seed=1).arrivals(8000, 86_400.0)
    assert asked == sorted(asked, key=lambda arrival: arrival.at)
    assert len(asked) == pytest.approx(8000, rel=0.1)
    evening = sum(17 * 3600 < arrival.at < 23 * 3600 for arrival in asked)
    morning = sum(5 * 3600 < arrival.at < 11 * 3600 for arrival in asked)
    assert evening > 1.4 * morning
    assert not {person.user for person in people.heavy} & {arrival.user for arrival in asked}
    by_server = sorted(
        sum(arrival.server == server for arrival in asked)
        for server in range(1, people.servers + 1)
    )
    assert by_server[-1] > 5 * by_server[len(by_server) // 2]


def test_the_seconds_are_those_that_were_measured():
    assert step_seconds(1344, 768) == pytest.approx(0.2705, rel=0.01)
    assert step_seconds(512, 512) == pytest.approx(0.12, rel=0.01)
    assert step_seconds(2048, 2048) == pytest.approx(1.54, rel=0.01)
    assert sum(drawing_seconds(1344, 768, 40, 1).values()) == pytest.approx(11.6, abs=0.1)


def test_jains_index():
    assert jain([3.0, 3.0, 3.0]) == 1.0
    assert jain([1.0, 0.0, 0.0, 0.0]) == 0.25
    assert jain([]) is None


def test_a_pile_that_passes_someone_who_was_served_nothing_is_counted():
    pile = [
        Entry(1, 7, True, 1, asked=0.0, started=10.0 * n, ended=10.0 * n + 10) for n in range(5)
    ]
    single = Entry(2, 7, False, 1, asked=15.0, started=20.5, ended=30.0)
    assert overtaken([*pile, single]) == 1
    assert overtaken([*pile, replace(single, started=16.0)]) == 0
    assert overtaken([*pile, replace(single, server=8)]) == 0


def test_virtual_time_jumps_and_waits_for_threads():
    settled: list[float] = []

    async def live(loop: VirtualLoop) -> tuple[float, float]:
        with loop.flowing():
            await asyncio.sleep(3600)
            slept = loop.time()
            waiting = asyncio.create_task(asyncio.sleep(60))
            with loop.held():
                await asyncio.to_thread(sum, range(1000))
            held = loop.time()
            await waiting
        assert loop.time() == pytest.approx(3660)
        return slept, held

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        loop.before_jump.append(lambda: settled.append(loop.time()))
        slept, held = runner.run(live(loop))
    assert slept == held == pytest.approx(3600)
    assert settled == [0.0, slept]


def test_virtual_time_that_cannot_go_on_says_so():
    async def wait_for_nothing(loop: VirtualLoop) -> None:
        with loop.flowing():
            await asyncio.Event().wait()

    runner = asyncio.Runner(loop_factory=VirtualLoop)
    loop = runner.get_loop()
    with pytest.raises(RuntimeError, match="nothing that will come"):
        runner.run(wait_for_nothing(loop))
    runner.close()
