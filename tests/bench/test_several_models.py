"""The simulated day of three models: what the rule saves, and what it may cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bot.cli.main import main
from bot.jobs.turns import Leeway
from bot.lab.bench.arguments import _MOST_MODELS
from bot.lab.bench.population import MODELS, Population, model_of
from bot.lab.bench.simulate import Plan, simulate
from bot.lab.bench.tally import Entry, switching

DAY = Plan(engines=1, users=50, hours=1.0, load=0.8, slower=1.0, models=(70.0, 20.0, 10.0))


def days(folder, plan: Plan):
    """The same people with and without the rule."""
    (folder / "plain").mkdir()
    (folder / "rule").mkdir()
    plain = simulate(replace(plan, plain=True), folder / "plain")
    return plain, simulate(plan, folder / "rule")


def check_promises(figures, engines: int = 1) -> None:
    assert figures["passed_over_s"] <= Leeway().of(engines).passed_s
    assert figures["idle_while_waiting"] == 0
    assert figures["states"] == {"generated": figures["jobs"]}
    assert figures["ended_once"] == figures["jobs"]


@pytest.mark.slow
def test_an_hour_of_three_models(tmp_path):
    plain, rule = days(tmp_path, replace(DAY, switch_seconds=10.0))
    check_promises(plain)
    check_promises(rule)
    assert plain["passed_over_s"] == 0.0
    assert rule["passed_over_s"] > 0.0
    assert plain["switches"] > 2 * rule["switches"] > 0
    assert set(rule["wait_s_by_model"]) == set(MODELS)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("switch_s", [2.5, pytest.param(10.0, marks=pytest.mark.thorough)])
def test_a_quarter_of_a_day_keeps_to_the_bars(tmp_path, switch_s):
    plain, rule = days(tmp_path, replace(DAY, hours=6.0, switch_seconds=switch_s))
    check_promises(rule)
    assert plain["switches"] >= 3 * rule["switches"]
    assert rule["wait_s"]["all"]["p99"] <= 1.1 * plain["wait_s"]["all"]["p99"]
    assert rule["jain_users"] > 0.95
    assert rule["jain_servers"] > 0.95


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_rare_models_do_not_change_all_engines_by_turns(tmp_path):
    plan = replace(DAY, engines=4, users=200, hours=1.0, switch_seconds=10.0)
    plain, rule = days(tmp_path, plan)
    check_promises(rule, engines=4)
    assert plain["switches"] > 2 * rule["switches"]


@pytest.mark.slow
def test_one_model_is_the_day_that_it_was(tmp_path):
    """Nothing is passed over, and nothing that is said of switches appears."""
    plain, rule = days(tmp_path, replace(DAY, models=(1.0,), hours=0.3))
    same = [{k: v for k, v in day.items() if k not in {"plan", "real"}} for day in (plain, rule)]
    assert same[0] == same[1]
    assert "switches" not in rule
    assert rule["passed_over_s"] == 0.0


def test_the_command_takes_shares(capsys):
    sizes = ["--engines", "1", "--users", "8", "--hours", "0.1", "--slower", "1"]
    assert main(["bench", "simulate", *sizes, "--models", "3,1", "--heavy", "1"]) == 0
    assert '"models": [' in capsys.readouterr().out
    for wrong in ("1,0", "1,1,1,1", "x"):
        with pytest.raises(SystemExit):
            main(["bench", "simulate", "--models", wrong])


@pytest.mark.slow
def test_a_request_keeps_its_model_and_shares_are_kept():
    assert len(MODELS) == _MOST_MODELS
    people = Population(500, 0, seed=1)
    assert not people.heavy
    asked = [arrival.request for arrival in people.arrivals(3000, 86_400.0)]
    models = [model_of(request, DAY.models) for request in asked]
    assert models == [model_of(request, DAY.models) for request in asked]
    shares = [models.count(model) / len(models) for model in MODELS]
    assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.03)
    assert {model_of(request, (1.0,)) for request in asked} == {MODELS[0]}


def test_switches_are_counted_with_the_waits():
    entries = [
        Entry(1, 7, False, 1, asked=0.0, started=10.0, ended=30.0, model="a"),
        Entry(2, 7, False, 1, asked=0.0, started=30.0, ended=60.0, model="b", switch_s=10.0),
    ]
    found = switching(entries)
    assert found["switches"] == 1
    assert found["wait_s_by_model"]["a"]["max"] == 10.0
    assert found["wait_s_by_model"]["b"]["max"] == 40.0
    assert switching(entries[:1]) == {}
