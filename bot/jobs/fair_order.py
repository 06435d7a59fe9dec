"""The fair order of those who wait, from which jobs may also be taken out of turn."""

from __future__ import annotations

import copy
import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from bot.domain.job import JobState
from storage.jobs import Unfinished
from storage.usage import Served

# Whose jobs stand in one line: a user's, of one weight.
_Whose = tuple[int, float]


class FairOrder:
    """The queued jobs in fair order.

    Servers share first, then the users within each; all that is outside of servers counts as one.
    Within a server the next job is the oldest of the user who was served least by weight; among
    these candidates that of the server served least, where a user counts for no less than what they
    had everywhere: whoever asks from many servers gets one server's share. Served is what the GPU
    spent of late, with the running jobs, and each one that was taken, at what `cost` expects in
    seconds; to the millisecond, since sums of floats that are equal on paper differ in their last
    bits. `jobs` come oldest first, with the running ones among them.
    """

    def __init__(
        self, jobs: Sequence[Unfinished], served: Served, cost: Callable[[Unfinished], float]
    ) -> None:
        self.cost: Final = cost
        self._users = defaultdict(float, served.users)
        self._servers = defaultdict(float, served.servers)
        self._lines: dict[int, _Line] = {}
        self._where: dict[int, set[int]] = defaultdict(set)
        for age, job in enumerate(jobs):
            if job.state is JobState.RUNNING:
                self._serve(job, cost(job))
            elif job.state is JobState.QUEUED:
                if job.server not in self._lines:
                    self._lines[job.server] = _Line(self._users)
                self._lines[job.server].add(age, job)
                self._where[job.user_id].add(job.server)
        # No two servers' keys are alike (a job's age is in them). A key changes only when its
        # server or one of its users is served: then the new one is added, and the old one is
        # passed over.
        self._keys: dict[int, tuple[float, int]] = {}
        self._heap: list[tuple[tuple[float, int], int]] = []
        for server, line in self._lines.items():
            line.begin()
            self._keys[server] = line.key(self._servers[server])
            self._heap.append((self._keys[server], server))
        heapq.heapify(self._heap)
        self._owned: set[int] = set(self._lines)
        """The servers whose lines are no longer shared with the order that this is a copy of."""

    def first(self) -> Unfinished | None:
        """Return the job whose turn it is, or None if none waits."""
        while self._heap:
            key, server = self._heap[0]
            if self._keys.get(server) == key:
                return self._lines[server].first()
            heapq.heappop(self._heap)
        return None

    def take(self, job: Unfinished, seconds: float | None = None) -> None:
        """Take a job out, of whatever place, and serve its user `seconds`; None: what it costs."""
        self._line(job.server).remove(job)
        self._serve(job, self.cost(job) if seconds is None else seconds)
        for server in self._where[job.user_id] | {job.server}:
            if server not in self._lines:
                continue
            line = self._line(server)
            if not line.settle():
                del self._lines[server], self._keys[server]
                continue
            self._keys[server] = line.key(self._servers[server])
            heapq.heappush(self._heap, (self._keys[server], server))

    def walk(self) -> Iterator[Unfinished]:
        """Yield the jobs as they would be taken by turns; the order itself stays as it is."""
        ahead = copy.copy(self)
        ahead.detach()
        while job := ahead.first():
            yield job
            ahead.take(job)

    def detach(self) -> None:
        """Share nothing that changes with the order that this is a copy of."""
        self._users, self._servers = self._users.copy(), self._servers.copy()
        self._lines, self._keys = self._lines.copy(), self._keys.copy()
        self._heap, self._owned = self._heap.copy(), set()

    def lead(self, job: Unfinished, other: Unfinished) -> float:
        """Return by how many GPU seconds `job` is ahead of `other` in what was served.

        Of one server by the users' shares, each divided by its weight; else by what is compared
        between servers.
        """
        if job.server == other.server:
            share, others = self._share(job), self._share(other)
        else:
            share, others = self._need(job), self._need(other)
        return share - others

    def _share(self, job: Unfinished) -> float:
        return self._users[job.user_id] / job.weight

    def _need(self, job: Unfinished) -> float:
        return max(self._servers[job.server], self._users[job.user_id])

    def _serve(self, job: Unfinished, seconds: float) -> None:
        self._users[job.user_id] += seconds
        self._servers[job.server] += seconds

    def _line(self, server: int) -> _Line:
        """Return a line that may be changed."""
        if server not in self._owned:
            self._lines[server] = copy.copy(self._lines[server])
            self._lines[server].detach(self._users)
            self._owned.add(server)
        return self._lines[server]


class _Line:
    """The queued jobs of one server, by their users' served seconds and weights.

    Jobs of one user and weight stand in order of age, and of these only the first competes.
    What users were served, and the age of their first jobs, grows only: a stale entry of the heap
    is too small, and is put right when it comes to the top.
    """

    def __init__(self, users: Mapping[int, float]) -> None:
        self._users = users
        self._waiting: dict[_Whose, list[tuple[int, Unfinished]]] = defaultdict(list)
        self._at: dict[_Whose, int] = {}
        """How many of each list have gone."""
        self._gone: set[str] = set()
        """The jobs that went while an older one of the same list stayed."""
        self._heap: list[tuple[float, int, _Whose]] = []

    def add(self, age: int, job: Unfinished) -> None:
        """Put the next older job in, before `begin`."""
        self._waiting[job.user_id, job.weight].append((age, job))

    def begin(self) -> None:
        """Let the first jobs compete, now that all are in."""
        for whose, waiting in self._waiting.items():
            self._at[whose] = 0
            self._heap.append((self._share(whose), waiting[0][0], whose))
        heapq.heapify(self._heap)

    def detach(self, users: Mapping[int, float]) -> None:
        """Go by what `users` were served, apart from the line that this is a copy of."""
        self._users = users
        self._at, self._gone, self._heap = self._at.copy(), self._gone.copy(), self._heap.copy()

    def key(self, server_s: float) -> tuple[float, int]:
        """Return what this server's first job is compared by with those of other servers.

        The line is settled.
        """
        _, age, (user_id, _) = self._heap[0]
        return round(max(server_s, self._users[user_id]), 3), age

    def first(self) -> Unfinished:
        """Return the first job of a settled line."""
        whose = self._heap[0][2]
        return self._waiting[whose][self._at[whose]][1]

    def remove(self, job: Unfinished) -> None:
        """Take a job out, of whatever place; the line is to be settled then."""
        whose = (job.user_id, job.weight)
        waiting, at = self._waiting[whose], self._at[whose]
        if waiting[at][1].id != job.id:
            self._gone.add(job.id)
            return
        at += 1
        while at < len(waiting) and waiting[at][1].id in self._gone:
            at += 1
        self._at[whose] = at

    def settle(self) -> bool:
        """Bring the right job to the top; return False when none is left."""
        while self._heap:
            share, age, whose = self._heap[0]
            waiting, at = self._waiting[whose], self._at[whose]
            if at == len(waiting):
                heapq.heappop(self._heap)
                continue
            now = (self._share(whose), waiting[at][0])
            if now == (share, age):
                return True
            heapq.heapreplace(self._heap, (*now, whose))
        return False

    def _share(self, whose: _Whose) -> float:
        user_id, weight = whose
        return round(self._users[user_id] / weight, 3)
