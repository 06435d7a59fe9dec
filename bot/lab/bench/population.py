"""Population of `bench simulate`: who they are, where they ask, when, and for what.

Assumptions, not measurements: nobody has published how people use an image bot. All of it comes
from one seed.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from bot.catalogue.models import find_model
from bot.domain.request import ImageRequest
from bot.domain.writing import Writing

K = TypeVar("K")

MODEL: Final = "Qwen/Qwen-Image"
MODELS: Final = (MODEL, "Qwen/Qwen-Image-2512", "Qwen/Qwen-Image-2.1")
"""The models that may be asked for; here they all take the first one's time."""
_DAY_S: Final = 86400.0
_PEAK_S: Final = 20 * 3600.0
_SWING: Final = 0.35
"""At 20:00 a third more than the mean, at 8:00 a third less."""
_SESSION_JOBS: Final = 3.0
_SESSION_GAP_S: Final = 150.0
_RUSHES_A_DAY: Final = 6
_RUSH_S: Final = 600.0
_RUSH_SHARE: Final = 0.05
"""The share of a large server's members who ask within the ten minutes of a rush."""
_USERS_A_SERVER: Final = 30
_AT_HOME: Final = 0.9
_DIRECT: Final = 0.03
_COUNTS: Final = ((1, 0.5), (2, 0.2), (4, 0.3))
_QUALITIES: Final = (("fast", 0.3), ("standard", 0.6), ("high", 0.1))
_SQUARES: Final = 0.4
"""The share of 1:1 and the other sizes beside the default one."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request; `at` is in seconds of the day, `server` None in direct messages."""

    at: float
    user: int
    server: int | None
    request: ImageRequest


@dataclass(frozen=True, slots=True)
class Person:
    """A user and the servers that they ask in, the first most of the time."""

    user: int
    servers: tuple[int, ...]


class Population:
    """Users in servers of unequal size (1/rank), `heavy` of whom always have something waiting."""

    def __init__(self, users: int, heavy: int, *, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - nothing secret
        self.servers = max(3, users // _USERS_A_SERVER)
        weights = [1.0 / (rank + 3) for rank in range(self.servers)]
        everyone = [
            Person(user, self._homes(weights)) for user in range(1, max(users, heavy + 1) + 1)
        ]
        self._random.shuffle(everyone)
        self.heavy, self.light = everyone[:heavy], everyone[heavy:]
        # A few ask often, most seldom: log-normal, the most eager tenth asks for two thirds.
        self._eagerness = list(
            itertools.accumulate(self._random.lognormvariate(0.0, 1.5) for _ in self.light)
        )

    def _homes(self, weights: list[float]) -> tuple[int, ...]:
        count = 2 if self._random.random() < 0.1 else 1  # noqa: PLR2004 - one in ten is in two
        return tuple(1 + n for n in self._random.choices(range(self.servers), weights, k=count))

    def mean_seconds(self, seconds: Callable[[ImageRequest], float]) -> float:
        """Return the mean of `seconds` over requests as people make them."""
        of = random.Random(0)  # noqa: S311 - nothing secret
        return sum(seconds(self.request(of)) for _ in range(2000)) / 2000

    def request(self, of: random.Random) -> ImageRequest:
        """Return a request as people make them: sizes, qualities and counts of the product."""
        model = find_model(MODEL)
        sizes = list(model.sizes.values())
        width, height = of.choice(sizes[1:]) if of.random() < _SQUARES else sizes[0]
        quality = model.qualities[_drawn(of, _QUALITIES)]
        return ImageRequest(
            "a lighthouse at night, waves, a small boat",
            width=width,
            height=height,
            steps=quality.steps,
            guidance=quality.guidance,
            seed=of.getrandbits(40),
            count=_drawn(of, _COUNTS),
        )

    def where(self, person: Person, of: random.Random) -> int | None:
        """Return the server in which a person asks this time."""
        if of.random() < _DIRECT:
            return None
        return person.servers[0] if of.random() < _AT_HOME else person.servers[-1]

    def arrivals(self, jobs: float, day_s: float) -> list[Arrival]:
        """Return the light users' requests, about `jobs` of them, in order of time."""
        found = [*self._sessions(jobs * (1 - _RUSH_SHARE), day_s), *self._rushes(day_s)]
        return sorted(found, key=lambda arrival: (arrival.at, arrival.user))

    def _sessions(self, jobs: float, day_s: float) -> Iterator[Arrival]:
        of = self._random
        for _ in range(round(jobs / _SESSION_JOBS)):
            person = of.choices(self.light, cum_weights=self._eagerness)[0]
            at, server = self._moment(day_s), self.where(person, of)
            while at < day_s:
                yield Arrival(at, person.user, server, self.request(of))
                if of.random() < 1 / _SESSION_JOBS:
                    break
                at += of.expovariate(1 / _SESSION_GAP_S)

    def _moment(self, day_s: float) -> float:
        """Return a time by the daily curve (thinning)."""
        while True:
            at = self._random.uniform(0.0, day_s)
            curve = 1 + _SWING * math.cos(2 * math.pi * (at - _PEAK_S) / _DAY_S)
            if self._random.random() < curve / (1 + _SWING):
                return at

    def _rushes(self, day_s: float) -> Iterator[Arrival]:
        """Yield the requests of rushes: for ten minutes many of one server ask, shown a picture."""
        of = self._random
        for _ in range(max(1, round(_RUSHES_A_DAY * day_s / _DAY_S))):
            start, server = self._moment(day_s), of.randint(1, max(1, self.servers // 10))
            members = [person for person in self.light if person.servers[0] == server]
            for person in of.sample(members, math.ceil(len(members) * _RUSH_SHARE)):
                at = start + of.uniform(0.0, _RUSH_S)
                if at < day_s:
                    yield Arrival(at, person.user, server, self.request(of))


def model_of(request: ImageRequest, shares: Sequence[float]) -> str:
    """Return the model that a request is for, by its seed; `shares` are those of the first models.

    People who want another model for each request switch most: it is the worst case.
    """
    of = random.Random(f"model {request.seed}")  # noqa: S311 - nothing secret
    return of.choices(MODELS[: len(shares)], shares)[0]


def text_of(request: ImageRequest, share: float) -> ImageRequest:
    """Return a request, or for a `share` of all, by their seeds, one to rewrite its prompt."""
    of = random.Random(f"text {request.seed}")  # noqa: S311 - nothing secret
    wanted = share > 0 and of.random() < share
    return request.with_changes(writes=Writing.ENHANCE.value) if wanted else request


def _drawn(of: random.Random, table: tuple[tuple[K, float], ...]) -> K:
    return of.choices([name for name, _ in table], [share for _, share in table])[0]
