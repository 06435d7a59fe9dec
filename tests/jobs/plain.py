"""The fair order as it is said, without any structure that makes it quick."""

from __future__ import annotations

from collections import defaultdict

from storage.jobs import Unfinished
from storage.usage import Served


def plain_order(waiting: list[Unfinished], served: Served) -> list[Unfinished]:
    """The rule as it is said: the least served user's oldest job in the least served server."""
    users, servers = defaultdict(float, served.users), defaultdict(float, served.servers)
    left, order = list(enumerate(waiting)), []
    while left:

        def share(item: tuple[int, Unfinished]) -> tuple[float, int]:
            age, job = item
            return round(users[job.user_id] / job.weight, 3), age

        def need(item: tuple[int, Unfinished]) -> tuple[float, int]:
            age, job = item
            return round(max(servers[job.server], users[job.user_id]), 3), age

        first = [
            min((item for item in left if item[1].server == server), key=share)
            for server in {job.server for _, job in left}
        ]
        chosen = min(first, key=need)
        left.remove(chosen)
        order.append(chosen[1])
        users[chosen[1].user_id] += chosen[1].work
        servers[chosen[1].server] += chosen[1].work
    return order
