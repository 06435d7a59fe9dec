"""Counts of `bench simulate`: waits, queue length, engine use, and how fair it was."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bot.jobs.forecast import FAIR_WINDOW_S
from bot.lab.bench.response import percentile

# The large servers are the ten in which light users ask most.
_LARGE: Final = 10
# The share of the day in which one must have work waiting to have it "always".
_ALWAYS: Final = 0.9


@dataclass(slots=True)
class Entry:
    """One accepted job. Times are virtual seconds of the day."""

    user: int
    server: int
    """0 in direct messages."""
    heavy: bool
    pictures: int
    asked: float
    started: float | None = None
    ended: float | None = None
    ends: int = 0
    model: str = ""
    switch_s: float = 0.0
    """What its engine took to change to its model."""

    @property
    def wait(self) -> float:
        """The seconds from the request to the start of drawing."""
        assert self.started is not None
        return self.started + self.switch_s - self.asked

    @property
    def seconds(self) -> float:
        """The seconds that an engine worked on it."""
        assert self.started is not None
        assert self.ended is not None
        return self.ended - self.started


class Tally:
    """Every job's times, and the queue's length as it changes."""

    def __init__(self, engines: int, day_s: float, clock: Callable[[], float]) -> None:
        self.entries: dict[str, Entry] = {}
        self.refused: dict[str, int] = defaultdict(int)
        self.waiting = self.running = self.longest = 0
        self.idle_while_waiting = 0
        """How often time went on with an engine idle and a job waiting; 0 is right."""
        self._engines = engines
        self._day_s = day_s
        self._clock = clock
        self._changed_at = 0.0
        self._waited = 0.0

    def asked(self, job_id: str, entry: Entry) -> None:
        """Note an accepted job, which waits now."""
        self._integrate()
        self.entries[job_id] = entry
        self.waiting += 1

    def refuse(self, job_id: str, why: str) -> None:
        """Note that a request, noted as waiting, was refused."""
        entry = self.entries.pop(job_id)
        self.waiting -= 1
        self.refused[f"{'heavy' if entry.heavy else 'light'}_{why}"] += 1

    def started(self, job_id: str, switch_s: float) -> None:
        """Note that an engine began a job, with a switch of so many seconds."""
        self._integrate()
        self.entries[job_id].started = self._clock()
        self.entries[job_id].switch_s = switch_s
        self.waiting -= 1
        self.running += 1

    def ended(self, job_id: str) -> None:
        """Note that a job's outcome is committed."""
        entry = self.entries[job_id]
        entry.ended = self._clock()
        entry.ends += 1
        self.running -= 1

    def settled(self) -> None:
        """Note whether an engine idles while a job waits; called before time goes on."""
        self.longest = max(self.longest, self.waiting)
        self.idle_while_waiting += self.waiting > 0 and self.running < self._engines

    def _integrate(self) -> None:
        now = min(self._clock(), self._day_s)
        self._waited += self.waiting * (now - self._changed_at)
        self._changed_at = now

    def figures(self) -> dict[str, Any]:
        """Return what became of the day, once every job has ended."""
        entries = list(self.entries.values())
        light = [entry for entry in entries if not entry.heavy]
        heavy = [entry for entry in entries if entry.heavy]
        asked = Counter(entry.server for entry in light if entry.server)
        large = {server for server, _ in asked.most_common(_LARGE)}
        busy_s = sum(self._within_day(entry) for entry in entries)
        return {
            "jobs": len(entries),
            "pictures": sum(entry.pictures for entry in entries),
            "light_jobs": len(light),
            "heavy_jobs": len(heavy),
            "refused": dict(sorted(self.refused.items())),
            "engine_use": round(busy_s / (self._engines * self._day_s), 3),
            "queue_mean": round(self._waited / self._day_s, 1),
            "queue_max": self.longest,
            "wait_s": {
                "all": waits(entries),
                "light": waits(light),
                "light_in_large_servers": waits([e for e in light if e.server in large]),
                "light_elsewhere": waits([e for e in light if e.server not in large]),
                "heavy": waits(heavy),
            },
            **switching(entries),
            **self._fairness(entries),
            "light_overtaken_by_a_pile": overtaken(entries),
            "idle_while_waiting": self.idle_while_waiting,
        }

    def _within_day(self, entry: Entry) -> float:
        assert entry.started is not None
        assert entry.ended is not None
        return max(0.0, min(entry.ended, self._day_s) - min(entry.started, self._day_s))

    def _fairness(self, entries: Sequence[Entry]) -> dict[str, Any]:
        """Return Jain's index over the engine seconds of those who always had work waiting."""
        users, servers = defaultdict[int, list[Entry]](list), defaultdict[int, list[Entry]](list)
        for entry in entries:
            users[entry.user].append(entry)
            servers[entry.server].append(entry)
        greedy = {user: of for user, of in users.items() if self._always_waiting(of)}
        full = {server: of for server, of in servers.items() if self._always_waiting(of)}
        same = defaultdict[int, list[float]](list)
        for of in greedy.values():
            homes = {entry.server for entry in of}
            if len(homes) == 1:
                same[homes.pop()].append(sum(map(self._within_day, of)))
        shared = [jain(shares) or 0.0 for shares in same.values() if len(shares) > 1]
        return {
            "always_waiting_users": len(greedy),
            "jain_users": jain([sum(map(self._within_day, of)) for of in greedy.values()]),
            "jain_users_of_one_server": min(shared, default=None),
            "always_waiting_servers": len(full),
            "jain_servers": jain([sum(map(self._within_day, of)) for of in full.values()]),
        }

    def _always_waiting(self, entries: Iterable[Entry]) -> bool:
        """Tell whether at least one of these jobs waited at nearly any time of the day."""
        covered = until = 0.0
        for entry in sorted(entries, key=lambda entry: entry.asked):
            assert entry.started is not None
            end = min(entry.started, self._day_s)
            covered += max(0.0, end - max(entry.asked, until))
            until = max(until, end)
        return covered >= _ALWAYS * self._day_s


def jain(shares: Sequence[float]) -> float | None:
    """Return Jain's fairness index, 1 for equal shares (Jain, Chiu, Hawe 1984, DEC-TR-301)."""
    if not shares:
        return None
    squares = len(shares) * sum(share * share for share in shares)
    return round(sum(shares) ** 2 / squares, 4) if squares else None


def waits(entries: Sequence[Entry]) -> dict[str, float]:
    """Return percentiles of the seconds until drawing began."""
    values = [entry.wait for entry in entries]
    if not values:
        return {}
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(percentile(values, share), 1) for name, share in shares.items()}


def switching(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return how often engines changed their models, and how long jobs of each model waited."""
    models = Counter(entry.model for entry in entries)
    if len(models) < 2:  # noqa: PLR2004 - with one there is nothing to change to
        return {}
    return {
        "switches": sum(entry.switch_s > 0 for entry in entries),
        "jobs_by_model": dict(models.most_common()),
        "wait_s_by_model": {
            model: waits([entry for entry in entries if entry.model == model])
            for model, _ in models.most_common()
        },
    }


def overtaken(entries: Sequence[Entry]) -> int:
    """Count jobs of served users that began while one of the same server, served nothing, waited.

    Served means within the hour that the fair order looks at; by its rule there are none.
    """
    servers, users = defaultdict[int, list[Entry]](list), defaultdict[int, list[Entry]](list)
    for entry in entries:
        servers[entry.server].append(entry)
        users[entry.user].append(entry)

    def served(user: int, at: float) -> bool:
        return any(
            other.started < at < other.ended + FAIR_WINDOW_S
            for other in users[user]
            if other.started is not None and other.ended is not None
        )

    count = 0
    for entry in entries:
        if entry.heavy or entry.started is None:
            continue
        for other in servers[entry.server]:
            if not other.heavy or other.started is None:
                continue
            if entry.asked < other.started < entry.started:
                count += served(other.user, other.started) and not served(entry.user, other.started)
    return count
