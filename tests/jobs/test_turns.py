"""Whose turn it is among several models: near in the fair order, and nobody passed over for long."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.job import JobState
from bot.jobs.costs import Costs, ModelCost
from bot.jobs.outlook import EngineOutlook, Outlook
from bot.jobs.schedule import fair_order, running_order
from bot.jobs.seats import misfit
from bot.jobs.turns import PLAIN, Leeway, next_turn
from storage.jobs import Unfinished
from storage.usage import Served
from tests.jobs.plain import plain_order

COSTS = Costs({model: ModelCost(1.0, switch_s=5.0) for model in "ABC"})
LEEWAY = Leeway(passed_s=40.0, near_s=60.0)


def outlook(*models: str, leeway: Leeway = LEEWAY) -> Outlook:
    engines = [EngineOutlook(model=model) for model in models]
    return Outlook(0.0, COSTS, None, False, lambda _: 0.0, engines, leeway.of(len(models)))


def waiting(number: int, user: int, server: int, work: float, model: str, weight: float = 1.0):
    return Unfinished(str(number), user, server, JobState.QUEUED, work, weight, None, model)


one_job = st.tuples(
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([1.0, 5.0, 12.5, 33.0]),
    st.sampled_from("AAAABBC"),
    st.sampled_from([0.5, 1.0, 1.0, 4.0]),
)
served_s = st.dictionaries(st.integers(1, 5), st.sampled_from([0.0, 10.0, 33.3, 100.0]))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(one_job, max_size=25), served_s, served_s, st.integers(0, 3))
def test_with_one_model_the_order_is_plain(pile, users, servers, engines):
    jobs = [waiting(n, u, s, work, "A", weight) for n, (u, s, work, _, weight) in enumerate(pile)]
    found = running_order(jobs, Served(users, servers), outlook(*"A" * engines))
    assert found == plain_order(jobs, Served(users, servers))


@settings(max_examples=100, deadline=None)
@given(st.lists(one_job, max_size=25), served_s, served_s, st.sampled_from(["A", "C", "AB"]))
def test_without_leeway_the_order_is_plain(pile, users, servers, engines):
    free = replace(COSTS, models={model: ModelCost(1.0) for model in "ABC"})
    jobs = [waiting(n, *job) for n, job in enumerate(pile)]
    seen = replace(outlook(*engines, leeway=PLAIN), costs=free)
    assert running_order(jobs, Served(users, servers), seen) == plain_order(
        jobs, Served(users, servers)
    )


class Played:
    """Engines that draw, one job after another, and what became of those who waited."""

    def __init__(self, engines: str, leeway: Leeway = LEEWAY) -> None:
        self.engines = list(engines)
        self.leeway = leeway
        self.waiting: list[Unfinished] = []
        self.served = Served(defaultdict(float), defaultdict(float))
        self.passed_s: Counter[str] = Counter()
        """By the plain order alone, not by what the rule noted."""
        self.switches = 0

    def ask(self, job: Unfinished) -> None:
        self.waiting.append(job)

    def draw(self, engine: int) -> Unfinished | None:
        """Let a free engine draw the job whose turn it is there; check the turn."""
        seen = outlook(*self.engines, leeway=self.leeway)
        order = fair_order(self.waiting, self.served, seen)
        noted = {job.id: job.passed_s for job in self.waiting}
        turn = next_turn(order, {self.engines[engine]}, seen.leeway, noted)
        if turn is None:
            assert not self.waiting
            return None
        plain = [job.id for job in plain_order(self.waiting, self.served)]
        before = plain[: plain.index(turn.job.id)]
        assert list(turn.passed) == before
        if before:
            assert turn.job.model == self.engines[engine], "a switch is for the first alone"
        for job_id in before:
            self.passed_s[job_id] += turn.job.work
        self._serve(engine, turn.job)
        self.waiting = [
            replace(job, passed_s=job.passed_s + turn.seconds) if job.id in turn.passed else job
            for job in self.waiting
            if job.id != turn.job.id
        ]
        return turn.job

    def _serve(self, engine: int, job: Unfinished) -> None:
        seconds = job.work
        if self.engines[engine] != job.model:
            seconds += COSTS.of(job.model).switch_s
            self.switches += 1
            self.engines[engine] = job.model
        self.served.users[job.user_id] += seconds
        self.served.servers[job.server] += seconds


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(one_job, st.integers(0, 2)), min_size=5, max_size=40),
    st.sampled_from(["A", "AB", "AAC"]),
)
def test_nobody_is_passed_over_beyond_the_bound(crowd, engines):
    """In GPU seconds for each engine, and without any switch; also by those who come later."""
    played, turns = Played(engines), 0
    for number, (job, draws) in enumerate(crowd):
        played.ask(waiting(number, *job))
        for _ in range(draws):
            played.draw(turns % len(engines))
            turns += 1
    while played.draw(turns % len(engines)):
        turns += 1
    assert max(played.passed_s.values(), default=0.0) <= LEEWAY.passed_s * len(engines)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("AAAAAAB"), st.sampled_from([3.0, 11.0])),
        min_size=90,
        max_size=110,
    ),
    st.booleans(),
)
def test_nobody_gets_far_ahead_of_those_who_wait_too(asked, one_server):
    """However often they come back: each asks again at once, so that nobody's place gets old."""
    played = Played("A", Leeway(passed_s=40.0, near_s=30.0))

    def ask(user: int, number: int) -> None:
        # The first user's jobs are of another model than what the others mostly want.
        model, work = asked[number]
        model = "C" if user == 1 else model
        played.ask(waiting(number, user, 7 if one_server else user, work, model))

    for number, user in enumerate((1, 2, 3)):
        ask(user, number)
    for number in range(3, len(asked)):
        ask(played.draw(0).user_id, number)
        shares = [played.served.users[user] for user in (1, 2, 3)]
        # The leeway, one job and its switch.
        assert max(shares) - min(shares) <= 30.0 + 11.0 + 5.0


def test_a_loaded_model_goes_on_until_somebody_waited_long_enough():
    played = Played("A")
    for number in range(12):
        # Users 10 to 21, who were all served nothing; the first wants another model.
        played.ask(waiting(number, 10 + number, 1, 8.0, "B" if number == 0 else "A"))
    drawn = [played.draw(0).id for _ in range(12)]
    # Five times eight seconds are the forty that it may be passed over.
    assert drawn == ["1", "2", "3", "4", "5", "0", "6", "7", "8", "9", "10", "11"]
    assert played.switches == 2


def test_who_was_served_far_more_passes_nobody():
    played = Played("A")
    played.served.users[2] = played.served.servers[1] = LEEWAY.near_s + 1.0
    played.ask(waiting(0, 1, 1, 8.0, "B"))
    played.ask(waiting(1, 2, 1, 8.0, "A"))
    assert played.draw(0).id == "0"
    assert not played.passed_s


def test_an_engine_without_a_model_takes_whoever_is_first():
    jobs = [waiting(0, 1, 1, 8.0, "B"), waiting(1, 2, 1, 8.0, "A")]
    order = fair_order(jobs, Served(), outlook("A"))
    assert next_turn(order, {"A", None}, LEEWAY, {}).job.id == "0"
    assert next_turn(order, {"A"}, LEEWAY, {}).job.id == "1"
    assert next_turn(order, (), LEEWAY, {}).job.id == "0"


def test_a_far_place_in_a_long_queue_is_not_looked_for():
    jobs = [waiting(n, n, 1, 0.01, "B") for n in range(100)]
    near = [*jobs[:60], waiting(200, 200, 1, 0.01, "A"), *jobs[60:]]
    far = [*jobs, waiting(200, 200, 1, 0.01, "A")]
    assert next_turn(fair_order(near, Served(), outlook("A")), {"A"}, LEEWAY, {}).job.id == "200"
    assert next_turn(fair_order(far, Served(), outlook("A")), {"A"}, LEEWAY, {}).job.id == "0"


@pytest.mark.parametrize(
    ("loaded", "wanted", "best"),
    [("AB", "B", "B"), ("AAB", "C", "A"), ("BAA", "C", "A"), ("CAB", "C", "C")],
)
def test_a_job_goes_to_its_model_and_a_rare_one_stays(loaded, wanted, best):
    copies = Counter(loaded)
    assert min(loaded, key=lambda model: misfit(model, wanted, copies)) == best
    assert misfit(None, wanted, copies) == misfit(wanted, wanted, copies)
